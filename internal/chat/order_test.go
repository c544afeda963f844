package chat

import (
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

// Answers of one kind are told apart by their order alone, so a refusal must not overtake the answer before it.
func TestRefusalsKeepTheOrderOfRequests(t *testing.T) {
	f := newFixture(t, 2)
	a := f.start("chat1", func(c *Config) { c.Limits.RequestRate, c.Limits.RequestBurst = 1, 10 })
	s := f.slowReader(a, 1)
	var frames []byte
	for range 14 { // one of the ten tokens may come back meanwhile
		var err error
		frames, err = wire.AppendFrame(frames, wire.MsgSearch, []byte(`{"uid":"user2"}`))
		require.NoError(t, err)
	}
	_, err := s.conn.Write(frames)
	require.NoError(t, err)
	var codes []wire.Code
	for range 14 {
		var reply wire.SearchReply
		s.expect(wire.MsgSearchRsp).into(t, &reply)
		codes = append(codes, reply.Error)
	}
	require.IsNonDecreasing(t, codes)
	require.Equal(t, wire.CodeOK, codes[9])
	require.Equal(t, wire.CodeRateLimited, codes[13])
}
