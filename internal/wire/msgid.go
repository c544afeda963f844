package wire

import "strconv"

// MsgID is the type of a frame. 1001–1048 belong to llfcchat (1031 and up to its later season); Parley's start at 2101.
type MsgID uint16

// Message ids. C is a client's request, S the server's reply to it, P a push from the server.
const (
	MsgLogin         MsgID = 1005 // C
	MsgLoginRsp      MsgID = 1006 // S
	MsgSearch        MsgID = 1007 // C
	MsgSearchRsp     MsgID = 1008 // S
	MsgApply         MsgID = 1009 // C: apply for friendship
	MsgApplyRsp      MsgID = 1010 // S
	MsgApplied       MsgID = 1011 // P: an application for the user
	MsgApprove       MsgID = 1013 // C: accept an application
	MsgApproveRsp    MsgID = 1014 // S
	MsgApproved      MsgID = 1015 // P: the user's application was accepted
	MsgText          MsgID = 1017 // C
	MsgTextRsp       MsgID = 1018 // S
	MsgTextPush      MsgID = 1019 // P
	MsgReplaced      MsgID = 1021 // P: a newer login took over; the connection closes
	MsgHeartbeat     MsgID = 1023 // C
	MsgHeartbeatRsp  MsgID = 1024 // S
	MsgThreads       MsgID = 1025 // C
	MsgThreadsRsp    MsgID = 1026 // S
	MsgOpenThread    MsgID = 1027 // C: the private thread with a friend, created if missing
	MsgOpenThreadRsp MsgID = 1028 // S
	MsgHistory       MsgID = 1029 // C
	MsgHistoryRsp    MsgID = 1030 // S
	MsgGoodbye       MsgID = 2101 // P: why the node closes the connection; native clients only
	MsgSync          MsgID = 2102 // C: the texts beyond the client's cursors, over all threads
	MsgSyncRsp       MsgID = 2103 // S
	MsgGap           MsgID = 2104 // P: gap notice: pushes of a thread were dropped from a number on

	MsgUnfriend       MsgID = 2105 // C: end a friendship
	MsgUnfriendRsp    MsgID = 2106 // S
	MsgBlock          MsgID = 2107 // C: end the friendship and refuse applications
	MsgBlockRsp       MsgID = 2108 // S
	MsgUnblock        MsgID = 2109 // C
	MsgUnblockRsp     MsgID = 2110 // S
	MsgBlocks         MsgID = 2111 // C: list blocked users
	MsgBlocksRsp      MsgID = 2112 // S
	MsgLogout         MsgID = 2113 // C: end this session, or all of the user's
	MsgLogoutRsp      MsgID = 2114 // S; the connection closes
	MsgFriendsChanged MsgID = 2115 // P: another device of the user ended a friendship, blocked or unblocked

	MsgGroupCreate      MsgID = 2116 // C
	MsgGroupCreateRsp   MsgID = 2117 // S
	MsgGroupInfo        MsgID = 2118 // C
	MsgGroupInfoRsp     MsgID = 2119 // S
	MsgGroupMembers     MsgID = 2120 // C: a page of the members
	MsgGroupMembersRsp  MsgID = 2121 // S
	MsgGroupInvite      MsgID = 2122 // C: add friends
	MsgGroupInviteRsp   MsgID = 2123 // S
	MsgGroupLeave       MsgID = 2124 // C
	MsgGroupLeaveRsp    MsgID = 2125 // S
	MsgGroupRemove      MsgID = 2126 // C: remove a member
	MsgGroupRemoveRsp   MsgID = 2127 // S
	MsgGroupRole        MsgID = 2128 // C: change a member's role, or hand the group over
	MsgGroupRoleRsp     MsgID = 2129 // S
	MsgGroupChange      MsgID = 2130 // C: change the name, mute all, open the history to new members
	MsgGroupChangeRsp   MsgID = 2131 // S
	MsgGroupMute        MsgID = 2132 // C: mute a member
	MsgGroupMuteRsp     MsgID = 2133 // S
	MsgGroupDissolve    MsgID = 2134 // C
	MsgGroupDissolveRsp MsgID = 2135 // S
	MsgGroupLink        MsgID = 2136 // C: create a link by which users can join
	MsgGroupLinkRsp     MsgID = 2137 // S
	MsgGroupLinks       MsgID = 2138 // C: list links
	MsgGroupLinksRsp    MsgID = 2139 // S
	MsgGroupRevoke      MsgID = 2140 // C: revoke a link
	MsgGroupRevokeRsp   MsgID = 2141 // S
	MsgGroupJoin        MsgID = 2142 // C: join by a link
	MsgGroupJoinRsp     MsgID = 2143 // S
	MsgGroupPush        MsgID = 2144 // P: texts and events of a group

	MsgRowPush MsgID = 2145 // P: rows of a private thread: what another device of the user sent, recalls and edits

	MsgMark     MsgID = 2146 // C: how far the user has read and received a thread
	MsgMarkRsp  MsgID = 2147 // S
	MsgMarkPush MsgID = 2148 // P: marks of a thread that moved
	MsgMarks    MsgID = 2149 // C: a page of the marks of a thread
	MsgMarksRsp MsgID = 2150 // S

	MsgWatch      MsgID = 2151 // C: the friends whose presence the client is told of from now on
	MsgWatchRsp   MsgID = 2152 // S
	MsgOnline     MsgID = 2153 // P: the presence of users who are watched
	MsgTyping     MsgID = 2154 // C: the user is typing; no reply
	MsgTypingPush MsgID = 2155 // P
	MsgVisible    MsgID = 2156 // C: whether others may see the user's presence
	MsgVisibleRsp MsgID = 2157 // S
	MsgRecall     MsgID = 2158 // C: take the content of a text away
	MsgRecallRsp  MsgID = 2159 // S
	MsgEdit       MsgID = 2160 // C: replace the content of a text
	MsgEditRsp    MsgID = 2161 // S
	MsgHide       MsgID = 2162 // C: delete texts for this user alone
	MsgHideRsp    MsgID = 2163 // S
	MsgHiddenPush MsgID = 2164 // P: another device of the user deleted texts for the user
)

// Reply returns the id of the reply to a client's request, and false for an id no client may send.
func (id MsgID) Reply() (MsgID, bool) {
	switch id {
	case MsgLogin, MsgSearch, MsgApply, MsgApprove, MsgText, MsgHeartbeat, MsgThreads, MsgOpenThread, MsgHistory, MsgSync,
		MsgUnfriend, MsgBlock, MsgUnblock, MsgBlocks, MsgLogout,
		MsgGroupCreate, MsgGroupInfo, MsgGroupMembers, MsgGroupInvite, MsgGroupLeave, MsgGroupRemove, MsgGroupRole,
		MsgGroupChange, MsgGroupMute, MsgGroupDissolve, MsgGroupLink, MsgGroupLinks, MsgGroupRevoke, MsgGroupJoin,
		MsgMark, MsgMarks, MsgWatch, MsgVisible, MsgRecall, MsgEdit, MsgHide:
		return id + 1, true
	}
	return 0, false
}

// Free reports whether an id is one of those that we may give to messages of a later version: up to 2999.
func (id MsgID) Free() bool { return id > MsgHiddenPush && id < 3000 }

// String returns the number: it is what logs, captures and the specification use.
func (id MsgID) String() string { return strconv.Itoa(int(id)) }

// Features are what a native client is shown beyond private texts, as a set. Each has a capability of the same name, and
// needs CapGap, because a client that cannot be told of dropped rows must not rely on pushes.
type Features uint8

const (
	FeatureGroups   Features = 1 << iota // CapGroups
	FeatureRows                          // CapRows
	FeatureMarks                         // CapMarks
	FeaturePresence                      // CapPresence
)

// FeatureOf returns the feature of a capability, 0 if it has none.
func FeatureOf(capability string) Features {
	switch capability {
	case CapGroups:
		return FeatureGroups
	case CapRows:
		return FeatureRows
	case CapMarks:
		return FeatureMarks
	case CapPresence:
		return FeaturePresence
	}
	return 0
}

// Needs returns the feature without which a client is not sent a push, 0 if every client is.
func (id MsgID) Needs() Features {
	switch id {
	case MsgGroupPush:
		return FeatureGroups
	case MsgRowPush, MsgHiddenPush:
		return FeatureRows
	case MsgMarkPush:
		return FeatureMarks
	case MsgOnline, MsgTypingPush:
		return FeaturePresence
	}
	return 0
}

// Fleeting reports whether a push is worth nothing later: where something waits already, it is dropped.
func (id MsgID) Fleeting() bool { return id == MsgTypingPush }

// Rows reports whether a push carries rows of a thread: those that are lost can be read again, and a gap notice says so.
func (id MsgID) Rows() bool { return id == MsgTextPush || id == MsgGroupPush || id == MsgRowPush }

// Passing reports whether a push that is lost is not worth remembering: clients can ask for what it says, or the next one
// says more.
func (id MsgID) Passing() bool { return id == MsgMarkPush || id == MsgTypingPush }
