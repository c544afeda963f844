package wire

import (
	"errors"
	"strings"
)

var (
	errNotUTF8     = errors.New("wire: body is not UTF-8")
	errTextBody    = errors.New("wire: text request longer than 48 KiB")
	errNotJSON     = errors.New("wire: body is not the expected JSON object")
	errUID         = errors.New("wire: uid out of range")
	errDevice      = errors.New("wire: device must be 1 to 32 of [a-z0-9_-]")
	errNoToken     = errors.New("wire: neither token nor resume")
	errManyTexts   = errors.New("wire: more than 64 texts in one request")
	errHeartbeat   = errors.New("wire: heartbeat_s outside 5 to 300")
	errWindow      = errors.New("wire: window outside 1 to 1024")
	errManyCursors = errors.New("wire: more than 1000 cursors")

	errSinceCursors = errors.New("wire: since with more than one cursor")
)

// Capabilities a native client may ask for in 1005 and 1006 grants.
const (
	CapBatch  = "batch"  // frames may be coalesced; no pacing
	CapResume = "resume" // 1006 carries a ticket that replaces the token at the next login
	CapGap    = "gap"    // an overflowing outbox becomes 2104 instead of a close

	// These need CapGap.
	CapGroups   = "groups"   // threads of type group, requests about them and 2144
	CapRows     = "rows"     // 2145, recalls, edits, texts deleted for the user
	CapMarks    = "marks"    // how far threads are read and received, and 2148
	CapPresence = "presence" // who is online and typing: 2153, 2155
)

// DefaultDevice is the device of a native client that names none.
const DefaultDevice = "native"

// LoginRequest is 1005. The stock client sends only uid and token; the other keys are Parley's and make the client native.
type LoginRequest struct {
	UID    int32  `json:"uid"`
	Token  string `json:"token"`
	Resume string `json:"resume,omitempty"`
	// Client is "name/version" and non-empty for native clients.
	Client string   `json:"client,omitempty"`
	Caps   []string `json:"caps,omitempty"`
	Device string   `json:"device,omitempty"`
	// HeartbeatS is the period the client would like, 5 to 300 s; 0 leaves it to the server.
	HeartbeatS int `json:"heartbeat_s,omitempty"`
	// Window is how many texts the client would like to have unanswered, 1 to 1,024; 0 leaves it to the server.
	Window int `json:"window,omitempty"`
}

// Native reports whether the client announced itself, and so is none of the stock ones.
func (r *LoginRequest) Native() bool { return r.Client != "" }

// DecodeLogin reads and checks a 1005.
func DecodeLogin(body []byte) (*LoginRequest, error) {
	r := new(LoginRequest)
	if err := Decode(body, r); err != nil {
		return nil, err
	}
	switch {
	case r.UID < 1:
		return nil, Refuse(CodeUIDInvalid, errUID)
	case r.Token == "" && r.Resume == "":
		// llfcchat's answer to a 1005 without a token.
		return nil, Refuse(CodeUIDInvalid, errNoToken)
	case len(r.Token) > 256 || len(r.Resume) > 256:
		return nil, Refuse(CodeTokenInvalid, errNoToken)
	case r.HeartbeatS != 0 && (r.HeartbeatS < 5 || r.HeartbeatS > 300):
		return nil, Refuse(CodeBadRequest, errHeartbeat)
	case r.Window < 0 || r.Window > 1024:
		return nil, Refuse(CodeBadRequest, errWindow)
	}
	switch {
	case !r.Native():
		r.Device = ""
	case r.Device == "", r.Device == DefaultDevice:
		r.Device = DefaultDevice
	case !validDevice(r.Device):
		return nil, Refuse(CodeBadRequest, errDevice)
	default:
		// A session keeps it, and a decoded string keeps the whole body alive.
		r.Device = strings.Clone(r.Device)
	}
	return r, nil
}

func validDevice(s string) bool {
	if len(s) > MaxDevice {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return s != ""
}

// SearchRequest is 1007. The stock client sends a string in uid, digits for an id and anything else for a name.
type SearchRequest struct {
	Query any `json:"uid"`
}

// ApplyRequest is 1009. The first generation puts its display name where the second puts the greeting.
type ApplyRequest struct {
	ToUID    int32  `json:"touid"`
	Greeting string `json:"applyname"`
	Back     string `json:"bakname"`
}

// ApproveRequest is 1013.
type ApproveRequest struct {
	ToUID int32  `json:"touid"` // the applicant
	Back  string `json:"back"`  // alias the approver gives the applicant
}

// ThreadsRequest is 1025: threads with an id above the cursor. Limit, 0 to 500, is read from native clients only.
type ThreadsRequest struct {
	After int64 `json:"thread_id"`
	Limit int   `json:"limit,omitempty"`
}

// OpenThreadRequest is 1027.
type OpenThreadRequest struct {
	OtherUID int32 `json:"other_id"`
}

// HistoryRequest is 1029: messages of the thread with a number above the cursor. Limit as in ThreadsRequest.
type HistoryRequest struct {
	ThreadID int64 `json:"thread_id"`
	After    int64 `json:"message_id"`
	Limit    int   `json:"limit,omitempty"`
}

// Cursor says how far the client has read a thread.
type Cursor struct {
	ThreadID int64 `json:"thread_id"`
	Seq      int64 `json:"seq"`
}

// SyncRequest is 2102. Threads without a cursor are read from their beginning when All is set, else left out.
//
// With Since, of an earlier SyncReply, the threads are those that have changed since that, and Cursors are of one thread at
// most: the one of which the client has the newest row.
type SyncRequest struct {
	Cursors   []Cursor `json:"cursors"`
	All       bool     `json:"all,omitempty"`
	WantSince bool     `json:"want_since,omitempty"` // answer with Since too
	Since     string   `json:"since,omitempty"`
}

// DecodeSync reads and checks a 2102.
func DecodeSync(body []byte) (*SyncRequest, error) {
	r := new(SyncRequest)
	if err := Decode(body, r); err != nil {
		return nil, err
	}
	if len(r.Cursors) > MaxCursors {
		return nil, Refuse(CodeBadRequest, errManyCursors)
	}
	if r.Since != "" && len(r.Cursors) > 1 {
		return nil, Refuse(CodeBadRequest, errSinceCursors)
	}
	return r, nil
}

// MaxCursors bounds the cursors of one 2102. The default frame holds 350 to 680 of them, by the length of their numbers.
const MaxCursors = 1000
