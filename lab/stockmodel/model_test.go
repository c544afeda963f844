package stockmodel

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

func frameOf(t *testing.T, id wire.MsgID, body string) []byte {
	t.Helper()
	b, err := wire.AppendFrame(nil, id, []byte(body))
	require.NoError(t, err)
	return b
}

func TestOnlyTheFirstHeaderOfAReadIsReadWhereItIs(t *testing.T) {
	one, two := frameOf(t, 1024, `{"error":0}`), frameOf(t, 1019, `{"error":0,"fromuid":7}`)
	both := append(append([]byte{}, one...), two...)
	type got struct {
		id   wire.MsgID
		body string
	}
	run := func(p *parser, reads ...[]byte) (frames []got, lost string) {
		for _, r := range reads {
			l, _ := p.readyRead(r, false, func(id wire.MsgID, body []byte) bool {
				frames = append(frames, got{id, string(body)})
				return true
			})
			if lost == "" {
				lost = l
			}
		}
		return frames, lost
	}
	right := []got{{1024, `{"error":0}`}, {1019, `{"error":0,"fromuid":7}`}}

	frames, lost := run(new(parser), one, two)
	require.Empty(t, lost)
	require.Equal(t, right, frames)

	p := new(parser)
	frames, lost = run(p, both)
	require.Contains(t, lost, "id 31522, length 25970")
	require.Len(t, frames, 1)
	frames, _ = run(p, one, two, one)
	require.Empty(t, frames, "it swallows what follows")

	// A pending body does not damage a header in the next read.
	frames, lost = run(new(parser), one[:9], both[9:])
	require.Empty(t, lost)
	require.Equal(t, right, frames)
	// Less than a header left over does no damage either.
	frames, lost = run(new(parser), both[:len(one)+3], both[len(one)+3:])
	require.Empty(t, lost)
	require.Equal(t, right, frames)

	// A frame cut off by a close damages the next connection.
	frames, lost = run(new(parser), one[:6], two)
	require.NotEqual(t, right[1:], frames)
	_ = lost

	q := new(parser)
	lost, late := q.readyRead(both, true, func(wire.MsgID, []byte) bool { return true })
	require.Empty(t, lost)
	require.Equal(t, 1, late)
}

// person returns a process in which user 1 is logged in and has loaded everything, with friend 2 in thread 9.
func person(t *testing.T, gen Generation) *Process {
	t.Helper()
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			if _, err := b.Read(buf); err != nil {
				return
			}
		}
	}()
	p := New(Options{Generation: gen, Patience: 50 * time.Millisecond})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn, p.goodbye = a, make(chan struct{})
	p.frameLocked(wire.MsgLoginRsp, []byte(`{"error":0,"uid":1,"name":"one","icon":"","friend_list":[{"uid":2,"name":"two"}]}`))
	if gen == M {
		p.frameLocked(wire.MsgThreadsRsp, []byte(`{"error":0,"load_more":false,"next_last_id":9,"threads":[{"thread_id":9,"type":"private","user1_id":1,"user2_id":2}]}`))
		p.frameLocked(wire.MsgHistoryRsp, []byte(`{"error":0,"thread_id":9,"last_message_id":1,"load_more":false,"chat_datas":[{"sender":2,"msg_id":1,"thread_id":9,"unique_id":"a","msg_content":"hi","status":2}]}`))
	}
	require.True(t, p.loaded)
	require.Empty(t, p.faults)
	return p
}

func TestWhatTheClientCannotBear(t *testing.T) {
	stored := `{"sender":3,"msg_id":1,"thread_id":11,"unique_id":"","msg_content":"x","status":2}`
	for name, c := range map[string]struct {
		id   wire.MsgID
		body string
		gen  Generation
		want Kind // empty: the client tolerates it
	}{
		"approval without chat_datas":          {id: 1014, body: `{"error":0,"uid":3,"name":"c"}`, want: Crash},
		"approved push with empty chat_datas":  {id: 1015, body: `{"error":0,"fromuid":3,"chat_datas":[]}`, want: Crash},
		"approval":                             {id: 1014, body: `{"error":0,"uid":3,"chat_datas":[` + stored + `]}`},
		"approval of a friend":                 {id: 1014, body: `{"error":0,"uid":2,"chat_datas":[` + stored + `]}`},
		"refused approval":                     {id: 1014, body: `{"error":1011}`},
		"text of an unannounced thread":        {id: 1019, body: `{"error":0,"fromuid":2,"thread_id":10,"chat_datas":[]}`, want: Crash},
		"text of a stranger, first generation": {id: 1019, body: `{"error":0,"fromuid":3,"text_array":[]}`, gen: S1, want: Crash},
		"text, first generation":               {id: 1019, body: `{"error":0,"fromuid":2,"text_array":[{"content":"x","msgid":"y"}]}`, gen: S1},
		"text that was in the history":         {id: 1019, body: `{"error":0,"fromuid":2,"thread_id":9,"chat_datas":[{"unique_id":"a","content":"hi","status":2}]}`, want: Duplicate},
		"text without status":                  {id: 1019, body: `{"error":0,"fromuid":2,"thread_id":9,"chat_datas":[{"unique_id":"b","content":"hi"}]}`, want: Lost},
		"text":                                 {id: 1019, body: `{"error":0,"fromuid":2,"thread_id":9,"chat_datas":[{"unique_id":"b","content":"hi","status":2}]}`},
		"thread with a stranger":               {id: 1028, body: `{"error":0,"uid":1,"other_id":3,"thread_id":12}`, want: Crash},
		"thread announced again":               {id: 1028, body: `{"error":0,"uid":1,"other_id":2,"thread_id":9}`, want: Duplicate},
		"refused thread":                       {id: 1028, body: `{"error":1012}`},
		"application with an error":            {id: 1011, body: `{"error":1,"applyuid":3}`, want: Crash},
		"application without error":            {id: 1011, body: `{"applyuid":3}`, want: Crash},
		"application":                          {id: 1011, body: `{"error":0,"applyuid":3,"name":"c","desc":"hi"}`},
		"search result nobody waits for":       {id: 1008, body: `{"error":0,"uid":2}`, want: Crash},
		"history nobody waits for":             {id: 1030, body: `{"error":0,"thread_id":9,"chat_datas":[]}`, want: Crash},
		"threads with an error":                {id: 1026, body: `{"error":2002}`, want: Hang},
		"second welcome":                       {id: 1006, body: `{"error":0,"uid":1,"name":"one"}`, want: Crash},
		"answer to a text nobody sent":         {id: 1018, body: `{"error":0,"thread_id":9,"chat_datas":[{"unique_id":"z","status":2}]}`, want: Duplicate},
		"answer with an error":                 {id: 1018, body: `{"error":2001}`, want: Lost},
		"answer for an unknown thread":         {id: 1018, body: `{"error":0,"thread_id":10,"chat_datas":[{"unique_id":"z","status":2}]}`, want: Crash},
		"numbers in strings are nothing":       {id: 1019, body: `{"error":0,"fromuid":2,"thread_id":"9","chat_datas":[]}`, want: Crash},
		"numbers past 31 bits are nothing":     {id: 1019, body: `{"error":0,"fromuid":2,"thread_id":2147483648,"chat_datas":[]}`, want: Crash},
		"unknown id":                           {id: 2104, body: `{"thread_id":1}`},
		"no json":                              {id: 1019, body: `{"error":0,`},
		"heartbeat answer":                     {id: 1024, body: `{"error":0}`},
	} {
		t.Run(name, func(t *testing.T) {
			p := person(t, c.gen)
			p.mu.Lock()
			p.frameLocked(c.id, []byte(c.body))
			p.mu.Unlock()
			if c.want == "" {
				require.Empty(t, p.Faults())
				return
			}
			require.NotEmpty(t, p.Faults())
			require.Equal(t, c.want, p.Faults()[0].Kind, "%v", p.Faults())
		})
	}
}

func TestLoadsThatNeverEnd(t *testing.T) {
	for name, frames := range map[string][]string{
		"threads": {`1026 {"error":0,"load_more":true,"next_last_id":0,"threads":[]}`},
		"history": {
			`1026 {"error":0,"load_more":false,"next_last_id":9,"threads":[{"thread_id":9,"type":"private","user1_id":1,"user2_id":2}]}`,
			`1030 {"error":0,"thread_id":9,"last_message_id":0,"load_more":true,"chat_datas":[]}`,
		},
		"history refused": {
			`1026 {"error":0,"load_more":false,"next_last_id":9,"threads":[{"thread_id":9,"type":"private","user1_id":1,"user2_id":2}]}`,
			`1030 {"error":1013}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := person(t, S1)
			p.mu.Lock()
			p.opts.Generation, p.window, p.loaded = M, false, false
			p.frameLocked(wire.MsgLoginRsp, []byte(`{"error":0,"uid":1,"name":"one","friend_list":[{"uid":2}]}`))
			for _, f := range frames {
				var id uint16
				var body string
				_, err := fmt.Sscanf(f, "%d %s", &id, &body)
				require.NoError(t, err)
				p.frameLocked(wire.MsgID(id), []byte(body))
			}
			p.mu.Unlock()
			require.Len(t, p.Faults(), 1)
			require.Equal(t, Hang, p.Faults()[0].Kind)
		})
	}
}

func TestAWindowThatWaitsForEverIsAHang(t *testing.T) {
	p := person(t, M)
	_, err := p.Search(t.Context(), "2")
	require.ErrorIs(t, err, ErrGone)
	require.Equal(t, Hang, p.Faults()[0].Kind)
}
