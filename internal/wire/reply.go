package wire

import (
	"slices"
	"strconv"
)

// Profile is the public data of a user. In replies it is embedded, never with a password or an address.
type Profile struct {
	UID  int32  `json:"uid"`
	Name string `json:"name"`
	Nick string `json:"nick"`
	Icon string `json:"icon"`
	Sex  int32  `json:"sex"`
	Desc string `json:"desc"`
}

// Friend is an element of 1006's friend_list. Back is the alias its reader gave that friend.
type Friend struct {
	Profile
	Back string `json:"back"`
}

// Application is an element of 1006's apply_list; its desc is the greeting. Status 0 is pending.
type Application struct {
	Profile
	Status int32 `json:"status"`
}

// SearchReply is 1008; on failure only the code is sent.
type SearchReply struct {
	Error Code `json:"error"`
	Profile
}

// AppliedPush is 1011. Error is always 0: the stock client crashes on anything else.
type AppliedPush struct {
	Error    Code   `json:"error"`
	ApplyUID int32  `json:"applyuid"`
	Name     string `json:"name"`
	Desc     string `json:"desc"`
	Icon     string `json:"icon"`
	Nick     string `json:"nick"`
	Sex      int32  `json:"sex"`
}

// StoredText is an element of chat_datas in 1014, 1015, 1030, 2144 and 2145. Kind is one of the Kind constants.
type StoredText struct {
	Sender    int32  `json:"sender"`
	MsgID     int64  `json:"msg_id"`
	ThreadID  int64  `json:"thread_id"`
	UniqueID  string `json:"unique_id"`
	Content   string `json:"msg_content"`
	ChatTime  string `json:"chat_time"`
	Status    int32  `json:"status"`
	CreatedMS int64  `json:"created_ms"`
	Kind      int32  `json:"kind,omitempty"`
	Type      string `json:"type,omitempty"`
	// EditedMS is when the text was edited last. Only clients with CapRows are shown it, and texts that were recalled or that the
	// user has hidden as such.
	EditedMS int64 `json:"edited_ms,omitempty"`
	Recalled bool  `json:"recalled,omitempty"`
	Hidden   bool  `json:"hidden,omitempty"`
}

// ApproveReply is 1014: the applicant, and the messages that opened the thread. Chats is never empty when Error is 0:
// the stock client reads its first element without looking.
type ApproveReply struct {
	Error Code         `json:"error"`
	UID   int32        `json:"uid"`
	Name  string       `json:"name"`
	Nick  string       `json:"nick"`
	Icon  string       `json:"icon"`
	Sex   int32        `json:"sex"`
	Chats []StoredText `json:"chat_datas"`
}

// ApprovedPush is 1015: the approver, and the same messages.
type ApprovedPush struct {
	Error   Code         `json:"error"`
	FromUID int32        `json:"fromuid"`
	ToUID   int32        `json:"touid"`
	Name    string       `json:"name"`
	Nick    string       `json:"nick"`
	Icon    string       `json:"icon"`
	Sex     int32        `json:"sex"`
	Chats   []StoredText `json:"chat_datas"`
}

// Thread is an element of 1026. LastSeq, which llfcchat does not have, is the number of its newest message, so that a
// native client knows without a request what it has missed.
//
// The other fields are a group's, as in GroupInfoReply. LastSeq of a group that the user has left is Left.
type Thread struct {
	ID      int64  `json:"thread_id"`
	Type    string `json:"type"`
	User1   int32  `json:"user1_id"`
	User2   int32  `json:"user2_id"`
	LastSeq int64  `json:"last_seq"`
	Name    string `json:"name,omitempty"`
	Role    int    `json:"role,omitempty"`
	Members int    `json:"members,omitempty"`
	FirstID int64  `json:"first_id,omitempty"`
	Left    int64  `json:"left,omitempty"`
	ThreadMarks
}

// ThreadsReply is 1026.
type ThreadsReply struct {
	Error    Code     `json:"error"`
	UID      int32    `json:"uid"`
	LoadMore bool     `json:"load_more"`
	NextLast int64    `json:"next_last_id"`
	Threads  []Thread `json:"threads"`
}

// OpenThreadReply is 1028.
type OpenThreadReply struct {
	Error    Code  `json:"error"`
	UID      int32 `json:"uid"`
	OtherUID int32 `json:"other_id"`
	ThreadID int64 `json:"thread_id"`
}

// HistoryReply is 1030.
type HistoryReply struct {
	Error       Code         `json:"error"`
	ThreadID    int64        `json:"thread_id"`
	LastID      int64        `json:"last_message_id"`
	LoadMore    bool         `json:"load_more"`
	Chats       []StoredText `json:"chat_datas"`
	ThreadMarks              // in a 2103 only
}

// SyncReply is 2103: for each thread with news a page of it, as in 1030. LoadMore at the top: ask again with the cursors
// advanced, or with Since. Since stands for the moment of the request; it is empty if that was not asked for, and if the
// request's own Since is of no use.
type SyncReply struct {
	Error    Code           `json:"error"`
	LoadMore bool           `json:"load_more"`
	Since    string         `json:"since,omitempty"`
	Threads  []HistoryReply `json:"threads"`
}

// Goodbye is 2101.
type Goodbye struct {
	Error   Code   `json:"error"`
	Reason  string `json:"reason"`
	RetryMS int    `json:"retry_ms"`
	// To is the host:port of a node that will take the client, or empty.
	To string `json:"to,omitempty"`
}

// Gap is 2104.
type Gap struct {
	ThreadID int64 `json:"thread_id"`
	FromSeq  int64 `json:"from_seq"`
}

// AppendGap appends the frame of a 2104.
func AppendGap(dst []byte, thread, from int64) []byte {
	at := len(dst)
	dst = appendInt(append(AppendHeader(dst, MsgGap, 0), '{'), `"thread_id":`, thread)
	dst = strconv.AppendInt(append(dst, `"from_seq":`...), from, 10)
	return patchLen(append(dst, '}'), at)
}

// Statuses of a text as the stock client reads them. It shows 0 as "still sending".
const (
	StatusFailed = 1
	StatusSent   = 2
)

// AppendCode appends the frame of a reply that is only a code: {"error":n}, with retry_ms when it is above 0.
func AppendCode(dst []byte, id MsgID, code Code, retryMS int) []byte {
	at := len(dst)
	dst = AppendHeader(dst, id, 0)
	dst = strconv.AppendInt(append(dst, `{"error":`...), int64(code), 10)
	if retryMS > 0 {
		dst = strconv.AppendInt(append(dst, `,"retry_ms":`...), int64(retryMS), 10)
	}
	return patchLen(append(dst, '}'), at)
}

// HeartbeatFrame is the whole 1024. It never changes; callers must not write to it.
var HeartbeatFrame = AppendCode(nil, MsgHeartbeatRsp, CodeOK, 0)

// patchLen writes the body length of the frame that begins at dst[at] and ends with dst. Replies built by appending are
// bounded by their contents; one that outgrows a frame would be a bug.
func patchLen(dst []byte, at int) []byte {
	if EndFrame(dst[at:]) != nil {
		panic("wire: reply longer than a frame")
	}
	return dst
}

// SentText is one element of 1018 and 1019 with what became of it.
type SentText struct {
	Seq       int64 // 0 when refused
	CreatedMS int64
	UniqueID  string
	Content   string
	Type      string
	Code      Code // CodeOK: stored
}

// AppendTextBody appends the body of a 1018 or, without the code of an element, a 1019: they are the same but for the
// refusals, which only the sender sees. Status is 2 for a stored text, 1 for a refused one, which also carries its code.
func AppendTextBody(dst []byte, from, to int32, thread int64, texts []SentText) []byte {
	dst = appendInt(append(dst, '{'), `"error":`, 0)
	dst = appendInt(dst, `"fromuid":`, int64(from))
	dst = appendInt(dst, `"touid":`, int64(to))
	dst = appendInt(dst, `"thread_id":`, thread)
	dst = append(dst, `"chat_datas":[`...)
	for i := range texts {
		t := &texts[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendInt(append(dst, '{'), `"message_id":`, t.Seq)
		dst = append(AppendString(append(dst, `"unique_id":`...), t.UniqueID), ',')
		dst = append(AppendString(append(dst, `"content":`...), t.Content), ',')
		if t.Type != "" {
			dst = append(AppendString(append(dst, `"type":`...), t.Type), ',')
		}
		if t.Code != CodeOK {
			dst = appendInt(dst, `"code":`, int64(t.Code))
			dst = append(dst, `"status":1,"chat_time":""}`...)
			continue
		}
		dst = append(dst, `"status":2,"chat_time":"`...)
		dst = AppendChatTime(dst, t.CreatedMS)
		dst = strconv.AppendInt(append(dst, `","created_ms":`...), t.CreatedMS, 10)
		dst = append(dst, '}')
	}
	return append(dst, ']', '}')
}

// AppendTextReply appends the whole frame of a 1018.
func AppendTextReply(dst []byte, from, to int32, thread int64, texts []SentText) []byte {
	at := len(dst)
	return patchLen(AppendTextBody(AppendHeader(dst, MsgTextRsp, 0), from, to, thread, texts), at)
}

// AppendTextRefusal appends the whole frame of a 1018 with refused texts, and with retry_ms when it is above 0.
func AppendTextRefusal(dst []byte, from, to int32, thread int64, texts []SentText, retryMS int) []byte {
	at := len(dst)
	dst = AppendHeader(dst, MsgTextRsp, 0)
	open := len(dst)
	dst = AppendTextBody(dst, from, to, thread, texts)
	if retryMS > 0 {
		dst = slices.Insert(dst, open+1, []byte(`"retry_ms":`+strconv.Itoa(retryMS)+`,`)...)
	}
	return patchLen(dst, at)
}

// TextPush is 1019 as a reader sees it; a 1018 reads the same. Seq is message_id.
type TextPush struct {
	Error    Code         `json:"error"`
	FromUID  int32        `json:"fromuid"`
	ToUID    int32        `json:"touid"`
	ThreadID int64        `json:"thread_id"`
	Chats    []PushedText `json:"chat_datas"`
}

// PushedText is an element of 1018 and 1019. Code is set in a 1018 only, and only when Status is StatusFailed.
type PushedText struct {
	Seq       int64  `json:"message_id"`
	UniqueID  string `json:"unique_id"`
	Content   string `json:"content"`
	Type      string `json:"type,omitempty"`
	Code      Code   `json:"code,omitempty"`
	Status    int32  `json:"status"`
	ChatTime  string `json:"chat_time"`
	CreatedMS int64  `json:"created_ms"`
}
