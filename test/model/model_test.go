package model

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"parley/client"
)

const people = 4 // users of a run, all of them friends at first

// text is a message in the model.
type text struct {
	from    int
	unique  string
	content string
}

// place identifies a session: there is one for each user and device.
type place struct {
	user   int
	device string
}

// pair names two users, the smaller index first.
type pair [2]int

func pairOf(a, b int) pair { return pair{min(a, b), max(a, b)} }

// model is the expected state of the cluster, with handles to access it.
type model struct {
	w     *world
	first int32 // uid of user 0

	threads map[pair]int64
	texts   map[pair][]text
	friends map[pair]bool
	blocked map[[2]int]bool // the first user has blocked the second
	live    map[place]*session
	tickets map[place]client.Ticket // of lost sessions
	sent    int
}

// session is a connection.
type session struct {
	*client.Conn
	at int // index of its node
}

var devices = []string{"phone", "laptop"}

func newModel(t *rapid.T, w *world) *model {
	m := &model{
		w: w, first: w.users(t, people), threads: map[pair]int64{}, texts: map[pair][]text{}, friends: map[pair]bool{},
		blocked: map[[2]int]bool{}, live: map[place]*session{}, tickets: map[place]client.Ticket{},
	}
	var uids [][2]int32
	var pairs []pair
	for a := range people {
		for b := a + 1; b < people; b++ {
			uids = append(uids, [2]int32{m.uid(a), m.uid(b)})
			pairs = append(pairs, pair{a, b})
		}
	}
	threads, err := w.store.Seed.Friends(context.Background(), uids)
	require.NoError(t, err)
	for i, p := range pairs {
		m.threads[p], m.friends[p] = threads[i], true
	}
	return m
}

func (m *model) close() {
	for _, s := range m.live {
		s.Close()
	}
}

func (m *model) uid(user int) int32 { return m.first + int32(user) }

// mayTalk reports whether texts between two users are stored.
func (m *model) mayTalk(a, b int) bool {
	return m.friends[pairOf(a, b)] && !m.blocked[[2]int{a, b}] && !m.blocked[[2]int{b, a}]
}

func bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

// anySession draws a live session, or skips the step.
func (m *model) anySession(t *rapid.T) (place, *session) {
	places := make([]place, 0, len(m.live))
	for p := range m.live {
		places = append(places, p)
	}
	if len(places) == 0 {
		t.Skip("nobody is logged in")
	}
	slices.SortFunc(places, func(a, b place) int {
		if a.user != b.user {
			return a.user - b.user
		}
		return slices.Index(devices, a.device) - slices.Index(devices, b.device)
	})
	p := rapid.SampledFrom(places).Draw(t, "session")
	return p, m.live[p]
}

func (m *model) anyOther(t *rapid.T, user int) int {
	return (user + rapid.IntRange(1, people-1).Draw(t, "other")) % people
}

// enter makes a connection the session of its place. The previous session must learn that it was replaced.
func (m *model) enter(t *rapid.T, p place, at int, ticket client.Ticket) {
	ctx, cancel := bounded()
	defer cancel()
	c, err := client.Dial(ctx, ticket, client.Options{Device: p.device, Client: "model/1"})
	require.NoError(t, err, "login of %v", p)
	if old := m.live[p]; old != nil {
		select {
		case <-old.Done():
			require.ErrorIs(t, old.Err(), client.ErrReplaced, "the old session of %v", p)
		case <-ctx.Done():
			t.Fatalf("the old session of %v was not ended", p)
		}
	}
	m.live[p] = &session{Conn: c, at: at}
	delete(m.tickets, p)
	for other := range people {
		if other != p.user {
			listed := slices.ContainsFunc(c.Friends(), func(f client.Friend) bool { return f.UID == m.uid(other) })
			require.Equal(t, m.friends[pairOf(p.user, other)], listed, "user %d in the friend list of user %d", other, p.user)
		}
	}
}

func (m *model) login(t *rapid.T) {
	p := place{rapid.IntRange(0, people-1).Draw(t, "user"), rapid.SampledFrom(devices).Draw(t, "device")}
	at := rapid.IntRange(0, len(m.w.nodes)-1).Draw(t, "node")
	m.enter(t, p, at, m.w.ticket(t, m.uid(p.user), at))
}

// drop closes a connection without logging out; its resume ticket stays valid.
func (m *model) drop(t *rapid.T) {
	p, s := m.anySession(t)
	m.tickets[p] = s.Ticket()
	s.Close()
	delete(m.live, p)
}

// resume brings a lost session back, on any node.
func (m *model) resume(t *rapid.T) {
	var lost []place
	for user := range people {
		for _, device := range devices {
			if p := (place{user, device}); m.tickets[p].Resume != "" {
				lost = append(lost, p)
			}
		}
	}
	if len(lost) == 0 {
		t.Skip("no session was dropped")
	}
	p := rapid.SampledFrom(lost).Draw(t, "dropped session")
	at := rapid.IntRange(0, len(m.w.nodes)-1).Draw(t, "node")
	ticket := m.tickets[p]
	ticket.Addr = m.w.nodes[at].server.ClientAddr()
	m.enter(t, p, at, ticket)
}

// say sends a text and compares its outcome with the expected one.
func (m *model) say(t *rapid.T, s *session, from, to int, sent text) {
	ctx, cancel := bounded()
	defer cancel()
	key := pairOf(from, to)
	got, err := s.SendTexts(ctx, client.InThread(m.threads[key]), client.Draft{UniqueID: sent.unique, Text: sent.content})
	require.NoError(t, err)
	require.Len(t, got, 1)
	before := slices.IndexFunc(m.texts[key], func(x text) bool { return x.from == from && x.unique == sent.unique })
	switch {
	case !m.mayTalk(from, to):
		require.Equal(t, client.CodeNotAllowed, client.CodeOf(got[0].Err), "a text of user %d to user %d", from, to)
	case before >= 0:
		require.NoError(t, got[0].Err)
		require.EqualValues(t, before+1, got[0].MessageID, "a text sent again keeps its number")
	default:
		require.NoError(t, got[0].Err)
		m.texts[key] = append(m.texts[key], sent)
		require.EqualValues(t, len(m.texts[key]), got[0].MessageID, "numbers are dense")
	}
}

func (m *model) send(t *rapid.T) {
	p, s := m.anySession(t)
	m.sent++
	unique := fmt.Sprint("text ", m.sent)
	m.say(t, s, p.user, m.anyOther(t, p.user), text{from: p.user, unique: unique, content: "this is " + unique})
}

// resend repeats an old text through any session of its sender.
func (m *model) resend(t *rapid.T) {
	p, s := m.anySession(t)
	other := m.anyOther(t, p.user)
	var own []text
	for _, x := range m.texts[pairOf(p.user, other)] {
		if x.from == p.user {
			own = append(own, x)
		}
	}
	if len(own) == 0 {
		t.Skip("nothing was sent")
	}
	m.say(t, s, p.user, other, rapid.SampledFrom(own).Draw(t, "old text"))
}

// read compares the history of a thread after a cursor with the model's.
func (m *model) read(t *rapid.T) {
	p, s := m.anySession(t)
	other := m.anyOther(t, p.user)
	want := m.texts[pairOf(p.user, other)]
	after := rapid.IntRange(0, len(want)).Draw(t, "cursor")
	ctx, cancel := bounded()
	defer cancel()
	n := after
	for got, err := range s.Messages(ctx, m.threads[pairOf(p.user, other)], int64(after)) {
		require.NoError(t, err)
		require.Less(t, n, len(want), "text %d was never sent", got.ID)
		require.EqualValues(t, n+1, got.ID)
		require.Equal(t, want[n], text{from: int(got.Sender - m.first), unique: got.UniqueID, content: got.Text})
		n++
	}
	require.Equal(t, len(want), n, "texts in the history")
}

// pushes checks the pushes to all sessions: only texts of their own threads, as stored.
func (m *model) pushes(t *rapid.T) {
	byThread := map[int64]pair{}
	for p, id := range m.threads {
		byThread[id] = p
	}
	for at, s := range m.live {
		for {
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			ev, err := s.Next(ctx)
			cancel()
			if errors.Is(err, context.DeadlineExceeded) {
				break
			}
			require.NoError(t, err)
			got, ok := ev.(client.Texts)
			if !ok {
				continue
			}
			key, known := byThread[got.ThreadID]
			require.True(t, known && slices.Contains(key[:], at.user), "user %d was pushed thread %d", at.user, got.ThreadID)
			for _, x := range got.Messages {
				require.LessOrEqual(t, int(x.ID), len(m.texts[key]), "a push of what is not stored")
				require.Equal(t, m.texts[key][x.ID-1], text{from: int(x.Sender - m.first), unique: x.UniqueID, content: x.Text})
			}
		}
	}
}

// kill ends a node as a crash does; its sessions are gone, but their tickets remain valid.
func (m *model) kill(t *rapid.T) {
	at := rapid.IntRange(0, len(m.w.nodes)-1).Draw(t, "node")
	for p, s := range m.live {
		if s.at == at {
			m.tickets[p] = s.Ticket()
			defer s.Close()
			delete(m.live, p)
		}
	}
	m.w.kill(at)
}

// steps are the possible steps of a run. A step listed twice is drawn twice as often.
func (m *model) steps() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"login": m.login, "login again": m.login, "drop": m.drop, "resume": m.resume,
		"send": m.send, "send more": m.send, "resend": m.resend, "read": m.read, "pushes": m.pushes,
	}
}

// check runs a test PARLEY_MODEL_CHECKS times, or as often as CI has time for.
func check(t *testing.T, usual int, run func(*rapid.T)) {
	t.Helper()
	checks := strconv.Itoa(usual)
	if n := os.Getenv("PARLEY_MODEL_CHECKS"); n != "" {
		checks = n
	}
	require.NoError(t, flag.Set("rapid.checks", checks))
	rapid.Check(t, run)
}

// TestClusterBehavesAsItsModel takes steps that rapid chooses and shrinks.
func TestClusterBehavesAsItsModel(t *testing.T) {
	w := newWorld(t, 2)
	check(t, 30, func(t *rapid.T) {
		m := newModel(t, w)
		defer m.close()
		t.Repeat(m.steps())
	})
}

// TestClusterBehavesAsItsModelWhileNodesDie is the same test while nodes are killed and restarted.
func TestClusterBehavesAsItsModelWhileNodesDie(t *testing.T) {
	w := newWorld(t, 2)
	check(t, 5, func(t *rapid.T) {
		m := newModel(t, w)
		defer m.close()
		steps := m.steps()
		steps["kill"] = m.kill
		t.Repeat(steps)
	})
}
