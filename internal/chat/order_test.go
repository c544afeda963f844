package chat

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

// Answers of one kind are told apart by their order alone, so a refusal must not overtake the answer before it.
func TestRefusalsKeepTheOrderOfRequests(t *testing.T) {
	t.Parallel()
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

// D1: texts sent right behind a 1005, and on, are stored in the order they were sent in, however the login goes.
func TestTextsBehindALoginKeepTheirOrder(t *testing.T) {
	t.Parallel()
	const logins, behind, after = 120, 10, 5
	f := newFixture(t, 2)
	a := f.start("chat1")
	sent := 0
	for range logins {
		ticket := f.ticket(a, 1)
		login := fmt.Appendf(nil, `{"uid":%d,"token":%q,"client":"order/1","device":"order"}`, ticket.UID, ticket.Token)
		frames, err := wire.AppendFrame(nil, wire.MsgLogin, login)
		require.NoError(t, err)
		var pieces [][]byte
		for i := range behind + after {
			// Some name only their recipient, for whom the thread must be looked up.
			to := fmt.Sprintf(`"thread_id":%d`, f.threads[0])
			if i%4 == 1 {
				to = fmt.Sprintf(`"touid":%d`, firstUID+1)
			}
			body := fmt.Appendf(nil, `{%s,"text_array":[{"unique_id":"%d","content":"%d"}]}`, to, sent, sent)
			sent++
			one, err := wire.AppendFrame(nil, wire.MsgText, body)
			require.NoError(t, err)
			if i < behind {
				frames = append(frames, one...)
			} else {
				pieces = append(pieces, one)
			}
		}
		s := dialRaw(t, ticket.Addr)
		_, err = s.conn.Write(frames)
		require.NoError(t, err)
		s.expect(wire.MsgLoginRsp) // now it goes live
		for _, p := range pieces {
			_, err = s.conn.Write(p)
			require.NoError(t, err)
		}
		for range behind + after {
			var reply wire.TextPush
			s.expect(wire.MsgTextRsp).into(t, &reply)
			require.Equal(t, wire.CodeOK, reply.Chats[0].Code)
		}
		s.conn.Close()
	}
	msgs, _, err := f.store.Messages.History(t.Context(), f.threads[0], 0, sent+1, 1<<24)
	require.NoError(t, err)
	require.Len(t, msgs, sent)
	for i := range msgs {
		require.Equal(t, fmt.Sprint(i), msgs[i].Content)
	}
}
