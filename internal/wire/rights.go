package wire

// What a native client may ask about its user's rights, from 2105 on.

// OtherRequest is 2105, 2107 and 2109: the user to unfriend, block or unblock.
type OtherRequest struct {
	UID int32 `json:"uid"`
}

// OtherReply is 2106, 2108 and 2110.
type OtherReply struct {
	Error Code  `json:"error"`
	UID   int32 `json:"uid"`
}

// BlocksRequest is 2111: those of the user's blocks whose uid is above the cursor. Limit is 0 to 500.
type BlocksRequest struct {
	After int32 `json:"after_uid"`
	Limit int   `json:"limit,omitempty"`
}

// BlocksReply is 2112.
type BlocksReply struct {
	Error    Code      `json:"error"`
	Blocked  []Blocked `json:"blocked"`
	LastUID  int32     `json:"last_uid"` // the cursor of the next page
	LoadMore bool      `json:"load_more"`
}

// Blocked is an element of 2112.
type Blocked struct {
	Profile
	CreatedMS int64 `json:"created_ms"`
}

// LogoutRequest is 2113.
type LogoutRequest struct {
	Scope string `json:"scope"`
}

// Scopes of a logout.
const (
	LogoutDevice = "device" // this session, and its device's resume ticket
	LogoutAll    = "all"    // all sessions, tokens and tickets of the user
)

// FriendsChangedPush is 2115: another device of the user changed how the user stands to UID.
type FriendsChangedPush struct {
	Error  Code   `json:"error"`
	Change string `json:"change"`
	UID    int32  `json:"uid"`
}

// Changes of 2115.
const (
	ChangeUnfriend = "unfriend" // no friend any more
	ChangeBlock    = "block"    // no friend any more, and blocked
	ChangeUnblock  = "unblock"
)
