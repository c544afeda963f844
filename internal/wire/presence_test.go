package wire

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPresenceIsEncodedAsItIsDecoded(t *testing.T) {
	states := []Presence{{UID: math.MaxInt32, LastSeenMin: math.MaxInt32}, {UID: 1, Online: true}}
	for n := range len(states) + 1 {
		var reply WatchReply
		require.NoError(t, Decode(AppendWatchReply(nil, states[:n]), &reply))
		require.Equal(t, WatchReply{States: states[:n]}, reply)
		var push OnlinePush
		require.NoError(t, Decode(AppendOnlinePush(nil, states[:n]), &push))
		require.Equal(t, OnlinePush{States: states[:n]}, push)
	}
	var typing TypingPush
	require.NoError(t, Decode(AppendTypingPush(nil, math.MaxInt32, 7), &typing))
	require.Equal(t, TypingPush{ThreadID: math.MaxInt32, UID: 7}, typing)

	many := make([]Presence, MaxWatched)
	for i := range many {
		many[i] = states[0]
	}
	require.Less(t, len(AppendWatchReply(nil, many)), MaxBody)
}
