package wire

import "errors"

// What clients with the capability "marks" are told of how far threads are read: 2146 to 2150, and keys of 1026 and 2103.

var (
	errMarkThread = errors.New("wire: thread_id outside 1 to 2147483647")
	errMark       = errors.New("wire: read or recv outside 0 to 2147483647")
	errMarkAfter  = errors.New("wire: after_uid below 0")
)

// MaxUnread is where unread texts are no longer counted.
const MaxUnread = 100

// ThreadMarks are keys of an element of 1026 and 2103: how far the user, and the other member of a private thread, have read
// the thread, up to which message they have received it, and how many texts of others are unread, MaxUnread at most.
type ThreadMarks struct {
	Read     int64 `json:"read,omitempty"`
	Recv     int64 `json:"recv,omitempty"`
	Unread   int   `json:"unread,omitempty"`
	PeerRead int64 `json:"peer_read,omitempty"`
	PeerRecv int64 `json:"peer_recv,omitempty"`
}

// MarkRequest is 2146. The user has read what is up to Read, and received what is up to Recv.
type MarkRequest struct {
	ThreadID int64 `json:"thread_id"`
	Read     int64 `json:"read,omitempty"`
	Recv     int64 `json:"recv,omitempty"`
}

// DecodeMark reads and checks a 2146.
func DecodeMark(body []byte) (MarkRequest, error) {
	var r MarkRequest
	if err := Decode(body, &r); err != nil {
		return r, err
	}
	switch {
	case r.ThreadID < 1 || r.ThreadID > MaxInt:
		return r, Refuse(CodeBadRequest, errMarkThread)
	case r.Read < 0 || r.Read > MaxInt || r.Recv < 0 || r.Recv > MaxInt:
		return r, Refuse(CodeBadRequest, errMark)
	}
	return r, nil
}

// MarkReply is 2147: the marks as they are stored now.
type MarkReply struct {
	Error    Code  `json:"error"`
	ThreadID int64 `json:"thread_id"`
	Read     int64 `json:"read"`
	Recv     int64 `json:"recv"`
}

// AppendMarkReply appends the frame of a 2147.
func AppendMarkReply(dst []byte, thread, read, recv int64) []byte {
	at := len(dst)
	dst = appendInt(append(AppendHeader(dst, MsgMarkRsp, 0), '{'), `"error":`, 0)
	dst = appendInt(dst, `"thread_id":`, thread)
	dst = appendInt(dst, `"read":`, read)
	dst = appendInt(dst, `"recv":`, recv)
	dst[len(dst)-1] = '}'
	return patchLen(dst, at)
}

// Mark is how far a user has read and received a thread: an element of 2148 and 2150.
type Mark struct {
	UID  int32 `json:"uid"`
	Read int64 `json:"read"`
	Recv int64 `json:"recv"`
}

// MarkPush is 2148: marks that moved.
type MarkPush struct {
	ThreadID int64  `json:"thread_id"`
	Marks    []Mark `json:"marks"`
}

// AppendMarkPush appends the body of a 2148.
func AppendMarkPush(dst []byte, thread int64, marks []Mark) []byte {
	dst = appendInt(append(dst, '{'), `"thread_id":`, thread)
	dst = append(dst, `"marks":[`...)
	for i := range marks {
		m := &marks[i]
		dst = appendInt(append(dst, '{'), `"uid":`, int64(m.UID))
		dst = appendInt(dst, `"read":`, m.Read)
		dst = appendInt(dst, `"recv":`, m.Recv)
		dst[len(dst)-1] = '}'
		dst = append(dst, ',')
	}
	if len(marks) > 0 {
		dst = dst[:len(dst)-1]
	}
	return append(dst, ']', '}')
}

// MarksRequest is 2149: the marks of users whose uid is above the cursor. Limit is 0 to 500.
type MarksRequest struct {
	ThreadID int64 `json:"thread_id"`
	After    int32 `json:"after_uid"`
	Limit    int   `json:"limit,omitempty"`
}

// DecodeMarks reads and checks a 2149.
func DecodeMarks(body []byte) (MarksRequest, error) {
	var r MarksRequest
	if err := Decode(body, &r); err != nil {
		return r, err
	}
	switch {
	case r.ThreadID < 1 || r.ThreadID > MaxInt:
		return r, Refuse(CodeBadRequest, errMarkThread)
	case r.After < 0:
		return r, Refuse(CodeBadRequest, errMarkAfter)
	case r.Limit < 0 || r.Limit > 500:
		return r, Refuse(CodeBadRequest, errLimit)
	}
	return r, nil
}

// MarksReply is 2150. A user without an element has marked nothing.
type MarksReply struct {
	Error    Code   `json:"error"`
	ThreadID int64  `json:"thread_id"`
	Marks    []Mark `json:"marks"`
	LoadMore bool   `json:"load_more"`
}
