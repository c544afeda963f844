package client

import (
	"crypto/rand"
	"fmt"
	"time"

	"parley/internal/wire"
)

// Limits of the protocol.
const (
	// MaxText is the longest text, in bytes of UTF-8.
	MaxText = wire.MaxText
	// MaxUniqueID is the longest unique id of a text, in bytes.
	MaxUniqueID = wire.MaxUniqueID
	// MaxDevice is the longest device name, in bytes of [a-z0-9_-].
	MaxDevice = wire.MaxDevice
)

// Profile is the public data of a user.
type Profile struct {
	UID  int32
	Name string // unique
	Nick string
	Icon string // a path among the stock client's resources; may be empty
	Sex  int32
	Desc string
}

// Friend is a user with whom the logged-in user exchanges texts.
type Friend struct {
	Profile
	// Alias is the name this user gave the friend; may be empty.
	Alias string
}

// Application is another user's application for friendship.
type Application struct {
	Profile
	Greeting string
}

// Thread is a conversation.
type Thread struct {
	ID int64
	// Private says that the thread is between two users; otherwise it is a group and Peer is 0.
	Private bool
	// Peer is the other user of a private thread.
	Peer int32
	// LastID is the id of the newest message that this user may read; 0 in an empty thread.
	LastID int64

	// The rest is a group's: its name, this user's role and the number of members. First is the id of the first message that
	// this user may read. Left is the id of the last one, by which the user ceased to be a member; 0 for a member.
	Name        string
	Role        Role
	Members     int
	First, Left int64

	ThreadMarks
}

// Kind says what a message is. A server may send others than those below; their Text and Event are empty.
type Kind int8

// The kinds.
const (
	KindText   Kind = wire.KindText
	KindEvent  Kind = wire.KindEvent  // of a group: Event says what has changed, Text is empty
	KindRecall Kind = wire.KindRecall // the text Target was recalled by Sender
	KindEdit   Kind = wire.KindEdit   // the text Target was edited by Sender; Text, Type and Edited are what it is now
)

// Message is a stored text, or a row that tells of a change: of a group, or of a text before it. Within a thread ids count
// 1, 2, 3 … without holes, in the same order for all members.
//
// A text that comes from the history is as it is now, also if it was edited since. The later row that tells of the edit comes all the
// same; to apply it again changes nothing.
type Message struct {
	ThreadID int64
	ID       int64
	Kind     Kind
	Sender   int32
	// UniqueID is the id its sender gave it.
	UniqueID string
	Text     string
	Event    *GroupEvent // nil unless Kind is KindEvent
	// Type is the type of the text, as its sender named it; empty for plain text.
	Type string
	// Edited is when the text was edited last; zero if it was not. In a message of KindEdit it is zero, and Text empty, if the text was
	// recalled since, or may not be read by this user.
	Edited time.Time
	// Recalled says that the text was recalled; Text is empty.
	Recalled bool
	// Hidden says that this user has hidden the message. All but its ids is empty.
	Hidden bool
	// Target is the id of the text that a message of KindRecall or KindEdit is about.
	Target int64
	// Time is when the server stored it, to the millisecond, in UTC.
	Time time.Time
}

// To says where a text goes: to a user, or into a thread. Set exactly one.
type To struct {
	UID      int32
	ThreadID int64
}

// User addresses a friend. The server finds, or makes, the private thread.
func User(uid int32) To { return To{UID: uid} }

// InThread addresses a thread of this user.
func InThread(id int64) To { return To{ThreadID: id} }

// Draft is a text to send. A second draft with the same UniqueID by the same user is not stored again: the server
// answers with the ids of the first. So a program that keeps drafts until they are answered may send them repeatedly.
type Draft struct {
	UniqueID string // at most MaxUniqueID bytes; empty: one is made
	Text     string // at most MaxText bytes of UTF-8 without NUL
	// Type says what Text is, such as "image/png" for a reference to an image: up to MaxType bytes of [a-z0-9./+-]. Empty: plain text.
	Type string
}

// NewDraft returns a draft with a random unique id.
func NewDraft(text string) Draft { return Draft{UniqueID: rand.Text(), Text: text} }

// Sent is the outcome of a draft.
type Sent struct {
	UniqueID string
	// ThreadID, MessageID and Time say where and when the text was stored; all zero if it was not.
	ThreadID  int64
	MessageID int64
	Time      time.Time
	// Err is nil for a stored text. An *Error is a refusal by the server; anything else means that the outcome is not
	// known, and that sending the draft again is safe.
	Err error
}

// Page is a part of a thread's history.
type Page struct {
	ThreadID int64
	Messages []Message // ascending by ID
	// Next is the cursor for the following page: the id of the last message, or the cursor asked with.
	Next int64
	// More says that there was more at that moment.
	More bool
	// Marks are of a page of a Sync only.
	Marks ThreadMarks
}

// Cursor says that the messages of a thread up to LastID are known.
type Cursor struct {
	ThreadID int64
	LastID   int64
}

// SyncPage is the result of a Sync.
type SyncPage struct {
	// Threads holds a page of each thread that had messages past its cursor.
	Threads []Page
	// More says that some were left out: ask again with the cursors moved, or with Since.
	More bool
	// Since stands for the moment of the request, for the next [Conn.SyncSince]. It is empty if the server cannot tell; and
	// in the answer to SyncSince if there is nothing else to be had than Sync.
	Since string
}

// Approval is the result of approving an application.
type Approval struct {
	Friend Profile
	// Messages opened the thread: usually the greeting and a fixed line.
	Messages []Message
}

// Ticket lets one user log in at a chat node once: by the Token of a gate login or by the Resume ticket of an earlier
// connection. It is a secret; printing it shows only the address and the user.
type Ticket struct {
	Addr   string // of the chat node: host:port, tls://host:port, or a URL that begins with ws:// or wss://
	UID    int32
	Token  string // good for 10 minutes
	Resume string // good for a day on any node, until the next one is used; wins over Token
	Other  string // a node to go to with Resume if Addr does not answer; may be empty
}

// Format writes the address and the user, never the secrets, whatever the verb.
func (t Ticket) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "uid %d at %s", t.UID, t.Addr) }

func profileOf(p wire.Profile) Profile { return Profile(p) }

// timeOf prefers milliseconds; foreign nodes send only the text form.
func timeOf(ms int64, text string) time.Time {
	if ms > 0 {
		return time.UnixMilli(ms).UTC()
	}
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.DateTime, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

func messagesOf(stored []wire.StoredText) []Message {
	out := make([]Message, len(stored))
	for i := range stored {
		s := &stored[i]
		out[i] = Message{
			ThreadID: s.ThreadID, ID: s.MsgID, Kind: Kind(s.Kind), Sender: s.Sender, UniqueID: s.UniqueID,
			Time: timeOf(s.CreatedMS, s.ChatTime), Type: s.Type, Recalled: s.Recalled, Hidden: s.Hidden, Edited: timeOf(s.EditedMS, ""),
		}
		switch out[i].Kind {
		case KindRecall, KindEdit:
			out[i].tellChange(s.Content)
		case KindText:
			out[i].Text = s.Content
		case KindEvent:
			out[i].Event = groupEventOf(s.Content)
		}
	}
	return out
}

func pageOf(r *wire.HistoryReply) Page {
	return Page{ThreadID: r.ThreadID, Messages: messagesOf(r.Chats), Next: r.LastID, More: r.LoadMore, Marks: threadMarksOf(r.ThreadMarks)}
}
