package wire

import (
	"errors"
	"strings"
)

// What clients with the capability "rows" may ask about single texts, and what they are sent: 2145 and 2158 to 2164.

var (
	errMsgID   = errors.New("wire: msg_id outside 1 to 2147483647")
	errContent = errors.New("wire: content must have 1 to 4096 bytes of UTF-8 without NUL")
	errHide    = errors.New("wire: no msg_ids, or more than 100")
)

const (
	// MaxType bounds the type of a text, in bytes.
	MaxType = 32
	// MaxHide bounds the texts of one 2162.
	MaxHide = 100
	// TypeText is the type of a text without one.
	TypeText = "text"
)

// RecalledContent is what clients without CapRows are shown of a recalled text.
const RecalledContent = "[recalled]"

// TypedContent returns what stock clients are shown of a text of a type.
func TypedContent(typ string) string { return "[" + typ + "]" }

// Events of texts.
const (
	EventRecalled = "recalled"
	EventEdited   = "edited"
)

// TextEvent is the content of a row of KindRecall or KindEdit, as JSON. Content, Type and EditedMS are those of the text that was edited
// as it is when the row is read; Content is nil if it was recalled since, or if the reader may not read it, and for clients without
// CapRows.
type TextEvent struct {
	Event    string  `json:"event"`
	By       int32   `json:"by"`
	MsgID    int64   `json:"msg_id"`
	Content  *string `json:"content,omitempty"`
	Type     string  `json:"type,omitempty"`
	EditedMS int64   `json:"edited_ms,omitempty"`
}

// ValidType reports whether a text may have a type.
func ValidType(s string) bool {
	if s == "" || len(s) > MaxType {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && strings.IndexByte("./+-", c) < 0 {
			return false
		}
	}
	return true
}

// RecallRequest is 2158.
type RecallRequest struct {
	GroupRequest
	MsgID int64 `json:"msg_id"`
}

func (r *RecallRequest) check() error { return first(r.GroupRequest.check(), checkMsgID(r.MsgID)) }

// EditRequest is 2160.
type EditRequest struct {
	RecallRequest
	Content string `json:"content"`
}

func (r *EditRequest) check() error {
	if !validContent(r.Content) {
		return errContent
	}
	return r.RecallRequest.check()
}

// HideRequest is 2162.
type HideRequest struct {
	GroupRequest
	MsgIDs []int64 `json:"msg_ids"`
}

func (r *HideRequest) check() error {
	if len(r.MsgIDs) == 0 || len(r.MsgIDs) > MaxHide {
		return errHide
	}
	for _, id := range r.MsgIDs {
		if err := checkMsgID(id); err != nil {
			return err
		}
	}
	return r.GroupRequest.check()
}

func checkMsgID(id int64) error {
	if id < 1 || id > MaxInt {
		return errMsgID
	}
	return nil
}

// HideReply is 2163.
type HideReply struct {
	Error    Code  `json:"error"`
	ThreadID int64 `json:"thread_id"`
}

// HiddenPush is 2164: another device of the user has deleted texts for the user.
type HiddenPush struct {
	ThreadID int64   `json:"thread_id"`
	MsgIDs   []int64 `json:"msg_ids"`
}

// RowPush is 2145: rows of a private thread in ascending order.
type RowPush struct {
	ThreadID int64        `json:"thread_id"`
	Chats    []StoredText `json:"chat_datas"`
}

// AppendRowPush appends the body of a 2145, as AppendGroupPush does.
func AppendRowPush(dst []byte, thread int64, rows []StoredText) []byte {
	return appendRows(appendInt(append(dst, '{'), `"thread_id":`, thread), rows)
}
