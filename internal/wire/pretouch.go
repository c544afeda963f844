package wire

import (
	"fmt"
	"reflect"

	"github.com/bytedance/sonic"
)

// bodies are the types that Decode and Encode meet, but for those of groups: they are many, each takes as long as any other,
// and nobody but their sender waits for a request about a group.
var bodies = []reflect.Type{
	reflect.TypeFor[LoginRequest](), reflect.TypeFor[TextRequest](), reflect.TypeFor[SearchRequest](),
	reflect.TypeFor[ApplyRequest](), reflect.TypeFor[ApproveRequest](), reflect.TypeFor[ThreadsRequest](),
	reflect.TypeFor[OpenThreadRequest](), reflect.TypeFor[HistoryRequest](), reflect.TypeFor[SyncRequest](),
	reflect.TypeFor[Profile](), reflect.TypeFor[Friend](), reflect.TypeFor[Application](),
	reflect.TypeFor[SearchReply](), reflect.TypeFor[AppliedPush](), reflect.TypeFor[ApproveReply](),
	reflect.TypeFor[ApprovedPush](), reflect.TypeFor[ThreadsReply](), reflect.TypeFor[OpenThreadReply](),
	reflect.TypeFor[HistoryReply](), reflect.TypeFor[SyncReply](), reflect.TypeFor[Goodbye](), reflect.TypeFor[Gap](),
	reflect.TypeFor[TextPush](), reflect.TypeFor[OtherRequest](), reflect.TypeFor[OtherReply](), reflect.TypeFor[BlocksRequest](),
	reflect.TypeFor[BlocksReply](), reflect.TypeFor[LogoutRequest](), reflect.TypeFor[FriendsChangedPush](),
	reflect.TypeFor[MarkRequest](),
}

// Pretouch compiles the codecs of bodies. Without it the first client to send one of a kind waits some
// milliseconds, and everybody behind it on the same goroutine. It takes about a tenth of a second once a process; calling
// it again costs nothing. A program with the race detector, which would take three seconds, leaves them to the first use.
func Pretouch() error {
	if raceEnabled {
		return nil
	}
	return compile()
}

func compile() error {
	for _, t := range bodies {
		if err := sonic.Pretouch(t); err != nil {
			return fmt.Errorf("wire: compile codec of %s: %w", t.Name(), err)
		}
		// A reply is passed to Encode by value or by pointer: two programs.
		if err := sonic.Pretouch(reflect.PointerTo(t)); err != nil {
			return fmt.Errorf("wire: compile codec of *%s: %w", t.Name(), err)
		}
	}
	return nil
}
