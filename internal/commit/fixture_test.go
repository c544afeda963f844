package commit

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/group"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// fakeStore numbers texts like the real store: per thread, with resends recognised by unique id.
type fakeStore struct {
	block chan struct{} // if not nil, an append waits for it, or for its context

	mu       sync.Mutex // guards the following
	access   map[int64]store.Access
	groups   map[int64]map[int32]store.GroupRight
	vers     map[int64]int32 // of groups
	rights   [][]store.GroupKey
	asked    [][]int64
	batches  [][]store.NewMessage
	deadline []time.Duration
	last     map[int64]int64
	known    map[string]int64
	rowErr   map[string]error
	err      error
	halfway  int // with err: number of rows stored in spite of it
	boots    []string
}

func newStore(threads ...int64) *fakeStore {
	s := &fakeStore{access: map[int64]store.Access{}, last: map[int64]int64{}, known: map[string]int64{}, rowErr: map[string]error{}}
	for _, id := range threads {
		s.access[id] = store.Access{User1: 1, User2: 2, Friends: true}
	}
	return s
}

func (s *fakeStore) Access(_ context.Context, threads []int64) (map[int64]store.Access, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, slices.Clone(threads))
	if s.err != nil {
		return nil, s.err
	}
	found := map[int64]store.Access{}
	for _, id := range threads {
		if a, ok := s.access[id]; ok {
			found[id] = a
		}
	}
	return found, nil
}

func (s *fakeStore) InGroups(_ context.Context, keys []store.GroupKey) (map[store.GroupKey]store.GroupRight, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rights = append(s.rights, slices.Clone(keys))
	if s.err != nil {
		return nil, s.err
	}
	found := map[store.GroupKey]store.GroupRight{}
	for _, k := range keys {
		if r, ok := s.groups[k.Thread][k.UID]; ok {
			r.Ver = s.vers[k.Thread]
			found[k] = r
		}
	}
	return found, nil
}

func (s *fakeStore) Append(ctx context.Context, _, boot string, msgs []store.NewMessage, out []store.Appended) error {
	if s.block != nil {
		select {
		case <-s.block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, _ := ctx.Deadline()
	s.deadline = append(s.deadline, time.Until(at))
	s.batches = append(s.batches, slices.Clone(msgs))
	s.boots = append(s.boots, boot)
	for i, m := range msgs {
		if s.err != nil && i >= s.halfway {
			break
		}
		if err := s.rowErr[m.Content]; err != nil {
			out[i].Err = err
			continue
		}
		a := s.access[m.ThreadID]
		mayWrite := a.MayWrite(m.Sender)
		if members, ok := s.groups[m.ThreadID]; ok {
			a.Ver, mayWrite = s.vers[m.ThreadID], members[m.Sender].MayWrite(time.Now().UnixMilli())
		}
		out[i].MemberVer = a.Ver
		seq, resent := s.known[m.UniqueID]
		if !resent && m.MemberVer != a.Ver && !mayWrite {
			out[i].Err = store.ErrMayNotWrite
			continue
		}
		if !resent {
			s.last[m.ThreadID]++
			seq = s.last[m.ThreadID]
			s.known[m.UniqueID] = seq
		}
		out[i] = store.Appended{Seq: seq, CreatedMS: 1767605472000, MemberVer: a.Ver, Resent: resent}
	}
	return s.err
}

// appended returns the messages of all batches so far. How requests are divided into batches depends on timing.
func (s *fakeStore) appended() []store.NewMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Concat(s.batches...)
}

// user is a sender that records its answers.
type user struct {
	uid    int32
	c      *collector
	stock  bool
	others bool // has other sessions
}

type collector struct {
	mu      sync.Mutex
	answers []wire.TextPush
	reqs    []*Request
	pushes  []session.Push
	rows    []group.Rows
	fenced  []string
	onPush  func()
	onReply func()
}

func (u *user) UID() int32       { return u.uid }
func (u *user) SID() session.SID { return session.SID(u.uid) }
func (u *user) Groups() bool     { return !u.stock }
func (u *user) Alone() bool      { return !u.others }

func (u *user) Answer(frame []byte, req *Request, _ *session.Cork) {
	var b wire.TextPush
	id, n := wire.ParseHeader(frame)
	if id != wire.MsgTextRsp || n != len(frame)-wire.HeaderLen {
		panic("not one 1018")
	}
	if err := wire.Decode(frame[wire.HeaderLen:], &b); err != nil {
		panic(err)
	}
	u.c.mu.Lock()
	u.c.answers = append(u.c.answers, b)
	u.c.reqs = append(u.c.reqs, req)
	f := u.c.onReply
	u.c.mu.Unlock()
	if f != nil {
		f()
	}
}

func (c *collector) deliver(p []session.Push, _ *session.Cork) {
	c.mu.Lock()
	c.pushes = append(c.pushes, p...)
	f := c.onPush
	c.mu.Unlock()
	if f != nil {
		f()
	}
}

func (c *collector) publish(rows ...group.Rows) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rows = append(c.rows, rows...)
}

// start returns a committer of one shard unless change says otherwise.
func start(t testing.TB, s *fakeStore, change func(*Config)) (*Committer, *collector) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Shards = 1
	if change != nil {
		change(&cfg)
	}
	col := new(collector)
	c := New(cfg, Deps{
		Log: slog.New(slog.DiscardHandler), Store: s, Rights: s, Node: "chat1", Boot: func() string { return "boot" },
		Deliver: col.deliver, Publish: col.publish, Fenced: func(b string) { col.fenced = append(col.fenced, b) },
	})
	t.Cleanup(c.Close)
	return c, col
}

// request returns a request of texts with the given contents, which are also their unique ids.
func (c *collector) request(uid int32, thread int64, contents ...string) *Request {
	r := &Request{From: &user{uid: uid, c: c}, Boot: "boot", Thread: thread, Bytes: 100}
	for _, s := range contents {
		r.Texts = append(r.Texts, wire.Text{Content: s, UniqueID: s})
	}
	return r
}

func (c *collector) wait(t testing.TB, n int) []wire.TextPush {
	t.Helper()
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.answers) >= n
	}, time.Minute, time.Millisecond)
	c.mu.Lock()
	defer c.mu.Unlock()
	require.Len(t, c.answers, n)
	return slices.Clone(c.answers)
}

// all returns the answers so far.
func (c *collector) all() []wire.TextPush {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.answers)
}

func codes(b wire.TextPush) (codes []wire.Code) {
	for _, t := range b.Chats {
		codes = append(codes, t.Code)
	}
	return codes
}
