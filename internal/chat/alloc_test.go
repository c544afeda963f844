package chat

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"parley/internal/clientconn"
	"parley/internal/commit"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// socket is one end of a socket pair, as a session sees its connection.
type socket struct{ fd int }

func (s socket) Fd() int                     { return s.fd }
func (s socket) Write(b []byte) (int, error) { return syscall.Write(s.fd, b) }
func (s socket) Close() error                { return nil }

// liveConn returns a logged-in native connection without a client, and the other end of its socket.
func liveConn(t testing.TB, s *Server) (*clientconn.Conn, *os.File) {
	t.Helper()
	return liveConnOf(t, s, firstUID)
}

func liveConnOf(t testing.TB, s *Server, uid int32) (*clientconn.Conn, *os.File) {
	t.Helper()
	return liveConnIn(t, s, uid, s.lease.Boot())
}

// liveConnIn is liveConnOf for a login in some life of the node.
func liveConnIn(t testing.TB, s *Server, uid int32, boot string) (*clientconn.Conn, *os.File) {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	for _, fd := range pair {
		require.NoError(t, syscall.SetNonblock(fd, true))
	}
	peer := os.NewFile(uintptr(pair[1]), "peer")
	t.Cleanup(func() { peer.Close(); syscall.Close(pair[0]) })
	c := s.conns.Attach(socket{pair[0]})
	c.SetWindow(64)
	require.True(t, c.Identify(session.Identity{
		UID: uid, Device: "native", SID: session.NewSID(time.Now()), Native: true, Boot: boot,
		Silent: time.Hour, // a busy machine may leave it silent for long
	}))
	s.registry.Add(&c.Session)
	require.Equal(t, session.Activated, s.registry.Activate(&c.Session))
	t.Cleanup(func() { s.registry.Remove(&c.Session) })
	return c, peer
}

func TestAHeartbeatAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates by itself; make test counts without it")
	}
	f := newFixture(t, 1)
	c, peer := liveConn(t, f.start("chat1").Server)
	beat, err := wire.AppendFrame(nil, wire.MsgHeartbeat, []byte(`{"fromuid":1001}`))
	require.NoError(t, err)
	answer := make([]byte, 64)
	// Averaged over enough runs that what the node does in the background rounds away.
	allocs := testing.AllocsPerRun(5000, func() {
		if !c.Receive(beat) {
			t.Fatal("refused")
		}
		if _, err := peer.Read(answer); err != nil {
			t.Fatal(err)
		}
	})
	require.Zero(t, allocs)
}

// memoryStore stores nothing and allows everything: what is left is our own cost.
type memoryStore struct{ seq int64 }

func (m *memoryStore) Access(_ context.Context, threads []int64) (map[int64]store.Access, error) {
	out := make(map[int64]store.Access, len(threads))
	for _, id := range threads {
		out[id] = store.Access{User1: firstUID, User2: firstUID + 1, Friends: true}
	}
	return out, nil
}

func (m *memoryStore) InGroups(context.Context, []store.GroupKey) (map[store.GroupKey]store.GroupRight, error) {
	return nil, nil
}

func (m *memoryStore) Append(_ context.Context, _, _ string, _ []store.NewMessage, out []store.Appended) error {
	for i := range out {
		m.seq++
		out[i] = store.Appended{Seq: m.seq, CreatedMS: 1767605472000}
	}
	return nil
}

// benchText is the body of a text from the first user to the second.
const benchText = `{"fromuid":1001,"touid":1002,"thread_id":7,"text_array":[{"content":"hello, how are you?","unique_id":"{6f1c2a3e-0b4d-4c5e-9f60-718293a4b5c6}"}]}`

// burst is how many texts come at once, as they do under load: a lone one also pays for a transaction's context and two
// flushers.
const burst = 32

// textBurst returns a function that takes a burst of texts from the socket to the sender's answers and, when local, the
// recipient's pushes.
func textBurst(t testing.TB, local bool) func() {
	t.Helper()
	f := newFixture(t, 1)
	s := f.start("chat1").Server
	deliver := func([]session.Push, *session.Cork) {}
	if local {
		deliver = s.delivery.Router.Deliver
	}
	commits := s.commits
	memory := &memoryStore{}
	s.commits = commit.New(commitConfig(s.cfg.Limits), commit.Deps{
		Log: s.log, Store: memory, Rights: memory, Node: "chat1", Boot: s.lease.Boot, Deliver: deliver,
	})
	t.Cleanup(commits.Close)
	c, peer := liveConn(t, s)
	var other *os.File
	if local {
		_, other = liveConnOf(t, s, firstUID+1)
	}
	var frames []byte
	for range burst {
		var err error
		frames, err = wire.AppendFrame(frames, wire.MsgText, []byte(benchText))
		require.NoError(t, err)
	}
	buf := make([]byte, 64<<10)
	readBurst := func(f *os.File) {
		var split wire.Splitter
		for n := 0; n < burst; {
			got, err := f.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			for rest, ok := buf[:got], true; ok; {
				if _, _, rest, ok, _ = split.Next(rest, wire.MaxBody); ok {
					n++
				}
			}
		}
	}
	return func() {
		if !c.Receive(frames) {
			t.Fatal("refused")
		}
		readBurst(peer)
		if local {
			readBurst(other)
		}
	}
}

// textAllocs counts what a text of a burst allocates without the decoder's share.
func textAllocs(t *testing.T, local bool) float64 {
	t.Helper()
	if raceEnabled {
		t.Skip("the race detector allocates by itself; make test counts without it")
	}
	run := textBurst(t, local)
	body := []byte(benchText)
	decode := testing.AllocsPerRun(1000, func() { _, _ = wire.DecodeText(body) })
	all := testing.AllocsPerRun(500, run) / burst
	t.Logf("%.2f allocations a text, %v of them the decoder's", all, decode)
	return all - decode
}

// The budgets of the design; docs/PERFORMANCE.md has what was measured.
func TestALocalTextAllocatesLittle(t *testing.T) { require.LessOrEqual(t, textAllocs(t, true), 4.0) }

func TestAStoredTextAllocatesLittle(t *testing.T) { require.LessOrEqual(t, textAllocs(t, false), 4.0) }

// A connection is what a node of 19,000 idle users holds 19,000 times; 384 bytes is a size class of the allocator.
func TestAConnectionIsSmall(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(clientconn.Conn{}), uintptr(416))
}
