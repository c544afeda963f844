package wire

import (
	"errors"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What clients with the capability "groups" may ask about groups, from 2116 on.

var (
	errGroupThread = errors.New("wire: thread_id outside 1 to 2147483647")
	errGroupName   = errors.New("wire: name of a group must have 1 to 64 printable characters")
	errGroupUID    = errors.New("wire: uid below 1")
	errManyUIDs    = errors.New("wire: no uid, or more than 100")
	errUniqueID    = errors.New("wire: unique_id must have 1 to 64 bytes of Unicode")
	errRole        = errors.New("wire: role outside 0 to 2")
	errNoChange    = errors.New("wire: nothing to change")
	errUntil       = errors.New("wire: until_ms outside 0 to 253402300799999")
	errLinkTTL     = errors.New("wire: ttl_s outside 60 to 2592000")
	errLinkUses    = errors.New("wire: uses outside 1 to 10000")
	errLinkCode    = errors.New("wire: code must have 1 to 64 of [A-Za-z0-9_-]")
	errLimit       = errors.New("wire: limit outside 0 to 500")
)

const (
	// MaxGroupName bounds a group's name, in characters.
	MaxGroupName = 64
	// MaxGroupUIDs bounds the users of one request.
	MaxGroupUIDs = 100
	// MaxLinkCode bounds the code of a link, in bytes.
	MaxLinkCode = 64
	// MaxTimeMS is the largest time a client may send: the end of the year 9999, in milliseconds since 1970.
	MaxTimeMS = 253402300799999

	// A link may be used for LinkMinTTLS to LinkMaxTTLS seconds and LinkMaxUses times. A request that does not say gets the
	// defaults.
	LinkMinTTLS     = 60
	LinkMaxTTLS     = 30 * 24 * 3600
	LinkDefaultTTLS = 7 * 24 * 3600
	LinkMaxUses     = 10000
	LinkDefaultUses = 1
)

// Roles of a group's members.
const (
	RoleMember = 0
	RoleAdmin  = 1
	RoleOwner  = 2
)

// Kinds of a row in a thread's sequence.
const (
	KindText   = 0
	KindEvent  = 1 // content is a GroupEvent
	KindRecall = 2 // content is a TextEvent
	KindEdit   = 3 // content is a TextEvent
)

// Events of a group.
const (
	EventCreated   = "created"
	EventJoined    = "joined" // by a link
	EventInvited   = "invited"
	EventLeft      = "left"
	EventRemoved   = "removed"
	EventRole      = "role"
	EventOwner     = "owner"
	EventRenamed   = "renamed"
	EventMuted     = "muted"
	EventUnmuted   = "unmuted"
	EventMuteAll   = "mute_all"
	EventHistory   = "history"
	EventDissolved = "dissolved"
)

// GroupEvent is the content of a row of KindEvent, as JSON.
type GroupEvent struct {
	Event   string  `json:"event"`
	By      int32   `json:"by"`
	UIDs    []int32 `json:"uids,omitempty"`
	Name    string  `json:"name,omitempty"`
	Role    *int    `json:"role,omitempty"`
	UntilMS int64   `json:"until_ms,omitempty"`
	On      *bool   `json:"on,omitempty"`
}

// GroupBody is the body of a request about groups: a pointer to one of the following structs.
type GroupBody interface{ check() error }

// DecodeGroup reads and checks a request about groups. A value out of bounds is refused with CodeBadRequest.
func DecodeGroup(body []byte, r GroupBody) error {
	if err := Decode(body, r); err != nil {
		return err
	}
	if err := r.check(); err != nil {
		return Refuse(CodeBadRequest, err)
	}
	return nil
}

// GroupCreateRequest is 2116. UniqueID is the client's, as that of a text: the same request sent again makes no second
// group. UIDs are friends to add.
type GroupCreateRequest struct {
	Name     string  `json:"name"`
	UniqueID string  `json:"unique_id"`
	UIDs     []int32 `json:"uids,omitempty"`
}

func (r *GroupCreateRequest) check() error {
	switch {
	case !ValidGroupName(r.Name):
		return errGroupName
	case r.UniqueID == "" || len(r.UniqueID) > MaxUniqueID || strings.Contains(r.UniqueID, "\ufffd"):
		return errUniqueID
	case len(r.UIDs) == 0:
		return nil
	}
	return checkUIDs(r.UIDs)
}

// GroupRequest is 2118, 2124, 2134 and 2138, which name a group and no more.
type GroupRequest struct {
	ThreadID int64 `json:"thread_id"`
}

func (r *GroupRequest) check() error {
	if r.ThreadID < 1 || r.ThreadID > MaxInt {
		return errGroupThread
	}
	return nil
}

// GroupMembersRequest is 2120: the members whose uid is above the cursor. Limit is 0 to 500.
type GroupMembersRequest struct {
	GroupRequest
	After int32 `json:"after_uid"`
	Limit int   `json:"limit,omitempty"`
}

func (r *GroupMembersRequest) check() error {
	if r.Limit < 0 || r.Limit > 500 {
		return errLimit
	}
	return r.GroupRequest.check()
}

// GroupInviteRequest is 2122.
type GroupInviteRequest struct {
	GroupRequest
	UIDs []int32 `json:"uids"`
}

func (r *GroupInviteRequest) check() error { return first(r.GroupRequest.check(), checkUIDs(r.UIDs)) }

// GroupRemoveRequest is 2126.
type GroupRemoveRequest struct {
	GroupRequest
	UID int32 `json:"uid"`
}

func (r *GroupRemoveRequest) check() error { return first(r.GroupRequest.check(), checkUID(r.UID)) }

// GroupRoleRequest is 2128. RoleOwner hands the group over; the owner becomes an admin.
type GroupRoleRequest struct {
	GroupRequest
	UID  int32 `json:"uid"`
	Role int   `json:"role"`
}

func (r *GroupRoleRequest) check() error {
	if r.Role < RoleMember || r.Role > RoleOwner {
		return errRole
	}
	return first(r.GroupRequest.check(), checkUID(r.UID))
}

// GroupChangeRequest is 2130. What is nil stays as it is.
type GroupChangeRequest struct {
	GroupRequest
	Name          *string `json:"name,omitempty"`
	MuteAll       *bool   `json:"mute_all,omitempty"`
	HistoryForNew *bool   `json:"history_for_new,omitempty"`
}

func (r *GroupChangeRequest) check() error {
	switch {
	case r.Name == nil && r.MuteAll == nil && r.HistoryForNew == nil:
		return errNoChange
	case r.Name != nil && !ValidGroupName(*r.Name):
		return errGroupName
	}
	return r.GroupRequest.check()
}

// GroupMuteRequest is 2132. UntilMS 0 ends the mute.
type GroupMuteRequest struct {
	GroupRequest
	UID     int32 `json:"uid"`
	UntilMS int64 `json:"until_ms"`
}

func (r *GroupMuteRequest) check() error {
	if r.UntilMS < 0 || r.UntilMS > MaxTimeMS {
		return errUntil
	}
	return first(r.GroupRequest.check(), checkUID(r.UID))
}

// GroupLinkRequest is 2136.
type GroupLinkRequest struct {
	GroupRequest
	TTLS int `json:"ttl_s,omitempty"`
	Uses int `json:"uses,omitempty"`
}

func (r *GroupLinkRequest) check() error {
	if r.TTLS == 0 {
		r.TTLS = LinkDefaultTTLS
	}
	if r.Uses == 0 {
		r.Uses = LinkDefaultUses
	}
	switch {
	case r.TTLS < LinkMinTTLS || r.TTLS > LinkMaxTTLS:
		return errLinkTTL
	case r.Uses < 1 || r.Uses > LinkMaxUses:
		return errLinkUses
	}
	return r.GroupRequest.check()
}

// GroupRevokeRequest is 2140.
type GroupRevokeRequest struct {
	GroupRequest
	Code string `json:"code"`
}

func (r *GroupRevokeRequest) check() error { return first(r.GroupRequest.check(), checkCode(r.Code)) }

// GroupJoinRequest is 2142.
type GroupJoinRequest struct {
	Code string `json:"code"`
}

func (r *GroupJoinRequest) check() error { return checkCode(r.Code) }

// ValidGroupName reports whether a group may have a name: printable characters, joiners of scripts and emoji among them,
// without a blank at either end.
func ValidGroupName(s string) bool {
	n := 0
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) && r != '\u200c' && r != '\u200d' {
			return false
		}
		n++
	}
	return n >= 1 && n <= MaxGroupName && strings.TrimSpace(s) == s
}

func checkUID(uid int32) error {
	if uid < 1 {
		return errGroupUID
	}
	return nil
}

func checkUIDs(uids []int32) error {
	if len(uids) == 0 || len(uids) > MaxGroupUIDs {
		return errManyUIDs
	}
	for _, uid := range uids {
		if uid < 1 {
			return errGroupUID
		}
	}
	return nil
}

func checkCode(s string) error {
	if s == "" || len(s) > MaxLinkCode {
		return errLinkCode
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return errLinkCode
		}
	}
	return nil
}

// first returns the first of two errors that is one.
func first(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// GroupReply is 2125, 2127, 2129, 2131, 2133 and 2135. EventID is the number of the row that tells all members of the
// change, 0 if there was nothing to change.
type GroupReply struct {
	Error    Code  `json:"error"`
	ThreadID int64 `json:"thread_id"`
	EventID  int64 `json:"msg_id"`
}

// GroupInviteReply is 2117 and 2123. Refused are the users who were not added.
type GroupInviteReply struct {
	GroupReply
	Refused []int32 `json:"refused"`
}

// GroupJoinReply is 2143.
type GroupJoinReply struct {
	GroupReply
	Name string `json:"name"`
}

// GroupInfoReply is 2119. A former member sees what it saw last. FirstID is the first row that the user may read, Left the
// row with which it left, 0 for a member.
type GroupInfoReply struct {
	Error         Code   `json:"error"`
	ThreadID      int64  `json:"thread_id"`
	Name          string `json:"name"`
	Owner         int32  `json:"owner"`
	Members       int    `json:"members"`
	MuteAll       bool   `json:"mute_all"`
	HistoryForNew bool   `json:"history_for_new"`
	Dissolved     bool   `json:"dissolved"`
	CreatedMS     int64  `json:"created_ms"`
	Role          int    `json:"role"`
	MutedUntilMS  int64  `json:"muted_until_ms"`
	FirstID       int64  `json:"first_id"`
	LastSeq       int64  `json:"last_seq"`
	Left          int64  `json:"left"`
}

// GroupMembersReply is 2121.
type GroupMembersReply struct {
	Error    Code          `json:"error"`
	ThreadID int64         `json:"thread_id"`
	Members  []GroupMember `json:"members"`
	LastUID  int32         `json:"last_uid"` // the cursor of the next page
	LoadMore bool          `json:"load_more"`
}

// GroupMember is an element of 2121.
type GroupMember struct {
	Profile
	Role         int   `json:"role"`
	JoinedMS     int64 `json:"joined_ms"`
	MutedUntilMS int64 `json:"muted_until_ms"`
}

// GroupLink is an element of 2139. Uses is how often it may still be used.
type GroupLink struct {
	Code      string `json:"code"`
	By        int32  `json:"by"`
	CreatedMS int64  `json:"created_ms"`
	ExpiresMS int64  `json:"expires_ms"`
	Uses      int    `json:"uses"`
}

// GroupLinkReply is 2137.
type GroupLinkReply struct {
	Error     Code   `json:"error"`
	ThreadID  int64  `json:"thread_id"`
	Code      string `json:"code"`
	ExpiresMS int64  `json:"expires_ms"`
	Uses      int    `json:"uses"`
}

// GroupLinksReply is 2139.
type GroupLinksReply struct {
	Error    Code        `json:"error"`
	ThreadID int64       `json:"thread_id"`
	Links    []GroupLink `json:"links"`
}

// GroupRevokeReply is 2141.
type GroupRevokeReply struct {
	Error    Code   `json:"error"`
	ThreadID int64  `json:"thread_id"`
	Code     string `json:"code"`
}

// GroupPush is 2144: rows of a group in ascending order, without holes between them.
type GroupPush struct {
	ThreadID int64 `json:"thread_id"`
	// MemberVer is the version of the group's members when the rows were stored.
	MemberVer int32        `json:"member_ver"`
	Chats     []StoredText `json:"chat_datas"`
}

// AppendGroupPush appends the body of a 2144. It reads no ChatTime and no Status: one is made of CreatedMS, the other is
// StatusSent.
func AppendGroupPush(dst []byte, thread int64, ver int32, rows []StoredText) []byte {
	dst = appendInt(append(dst, '{'), `"thread_id":`, thread)
	dst = appendInt(dst, `"member_ver":`, int64(ver))
	return appendRows(dst, rows)
}

// appendRows appends the key chat_datas and the end of the object.
func appendRows(dst []byte, rows []StoredText) []byte {
	dst = append(dst, `"chat_datas":[`...)
	for i := range rows {
		r := &rows[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendInt(append(dst, '{'), `"sender":`, int64(r.Sender))
		dst = appendInt(dst, `"msg_id":`, r.MsgID)
		dst = appendInt(dst, `"thread_id":`, r.ThreadID)
		dst = append(AppendString(append(dst, `"unique_id":`...), r.UniqueID), ',')
		dst = append(AppendString(append(dst, `"msg_content":`...), r.Content), ',')
		dst = AppendChatTime(append(dst, `"chat_time":"`...), r.CreatedMS)
		dst = strconv.AppendInt(append(dst, `","status":2,"created_ms":`...), r.CreatedMS, 10)
		if r.Kind != KindText {
			dst = strconv.AppendInt(append(dst, `,"kind":`...), int64(r.Kind), 10)
		}
		if r.Type != "" {
			dst = AppendString(append(dst, `,"type":`...), r.Type)
		}
		dst = append(dst, '}')
	}
	return append(dst, ']', '}')
}
