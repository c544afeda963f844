package wire

import "strconv"

// Who is online and typing, from 2151 on: with the capability CapPresence.

// MaxWatched is how many users a session may watch.
const MaxWatched = 500

// WatchRequest is 2151: the users whose presence the client is told of from now on, in place of those of the last one.
type WatchRequest struct {
	UIDs []int32 `json:"uids"`
}

// WatchReply is 2152: the present states, in the order of the request.
type WatchReply struct {
	Error  Code       `json:"error"`
	States []Presence `json:"states"`
}

// OnlinePush is 2153: states that have changed.
type OnlinePush struct {
	States []Presence `json:"states"`
}

// Presence is the presence of a user as another one sees it. LastSeenMin is when the user was online last, in minutes
// since 1970; 0 while the user is online, or if that is unknown or not shown.
type Presence struct {
	UID         int32 `json:"uid"`
	Online      bool  `json:"online"`
	LastSeenMin int32 `json:"last_seen_min"`
}

// TypingRequest is 2154, which has no reply.
type TypingRequest struct {
	ThreadID int64 `json:"thread_id"`
}

// TypingPush is 2155: UID is typing in a thread.
type TypingPush struct {
	ThreadID int64 `json:"thread_id"`
	UID      int32 `json:"uid"`
}

// VisibleRequest is 2156. Without Visible it asks, and changes nothing.
type VisibleRequest struct {
	Visible *bool `json:"visible"`
}

// VisibleReply is 2157.
type VisibleReply struct {
	Error   Code `json:"error"`
	Visible bool `json:"visible"`
}

// AppendWatchReply appends the body of a 2152 without an error.
func AppendWatchReply(dst []byte, states []Presence) []byte {
	return appendStates(append(dst, `{"error":0,"states":[`...), states)
}

// AppendOnlinePush appends the body of a 2153.
func AppendOnlinePush(dst []byte, states []Presence) []byte {
	return appendStates(append(dst, `{"states":[`...), states)
}

func appendStates(dst []byte, states []Presence) []byte {
	for i := range states {
		s := &states[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(append(dst, `{"uid":`...), int64(s.UID), 10)
		dst = strconv.AppendBool(append(dst, `,"online":`...), s.Online)
		dst = strconv.AppendInt(append(dst, `,"last_seen_min":`...), int64(s.LastSeenMin), 10)
		dst = append(dst, '}')
	}
	return append(dst, `]}`...)
}

// AppendTypingPush appends the body of a 2155.
func AppendTypingPush(dst []byte, thread int64, uid int32) []byte {
	dst = strconv.AppendInt(append(dst, `{"thread_id":`...), thread, 10)
	dst = strconv.AppendInt(append(dst, `,"uid":`...), int64(uid), 10)
	return append(dst, '}')
}
