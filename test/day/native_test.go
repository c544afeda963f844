package day

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"

	"parley/client"
)

// native is a user of package client with an unreliable network.
type native struct {
	d    *day
	rnd  *rand.Rand
	uid  int32
	sess *client.Session
	wire brittle
	done chan struct{}

	mu    sync.Mutex // guards the following
	texts map[int64][]string
	asked []int32
}

// brittle dials connections and breaks them.
type brittle struct {
	mu   sync.Mutex // guards the following
	conn net.Conn
	cuts int
}

func (b *brittle) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conn = conn
	return conn, err
}

// cut resets the latest connection, unless that has been done.
func (b *brittle) cut() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if tcp, ok := b.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // without it the close is merely graceful
		_ = tcp.Close()
		b.conn = nil
		b.cuts++
		return true
	}
	return false
}

func (n *native) open(ctx context.Context) error {
	token, err := n.d.w.token(ctx, n.uid)
	if err != nil {
		return err
	}
	n.texts, n.done = map[int64][]string{}, make(chan struct{})
	n.sess, err = client.Open(ctx, client.SessionOptions{
		Options:     client.Options{Dial: n.wire.dial},
		Ticket:      client.Ticket{Addr: n.d.w.addrs[n.rnd.IntN(len(n.d.w.addrs))], UID: n.uid, Token: token},
		Nodes:       n.d.w.addrs,
		Cursors:     []client.Cursor{},
		BackoffBase: 10 * time.Millisecond, BackoffLimit: 200 * time.Millisecond,
		// Calls between nodes have a timeout of one second, which may be too short on this machine. The next sync
		// finds pushes lost because of it.
		SyncEvery: settle / 4,
	})
	if err != nil {
		return err
	}
	go n.listen()
	return nil
}

// listen handles events until the session ends. Texts of a thread must arrive as 1, 2, 3 …
func (n *native) listen() {
	defer close(n.done)
	for ev := range n.sess.Events(context.Background()) {
		n.mu.Lock()
		switch ev := ev.(type) {
		case client.Texts:
			for _, m := range ev.Messages {
				if want := int64(len(n.texts[m.ThreadID]) + 1); m.ID != want {
					n.d.ledger.fault("session of %d: message %d of thread %d came after %d", n.uid, m.ID, m.ThreadID, want-1)
				}
				n.texts[m.ThreadID] = append(n.texts[m.ThreadID], m.Text)
			}
		case client.Applied:
			n.asked = append(n.asked, ev.Application.UID)
		}
		n.mu.Unlock()
	}
	if err := n.sess.Err(); !errors.Is(err, client.ErrClosed) {
		n.d.ledger.fault("session of %d ended: %v", n.uid, err)
	}
}

func (n *native) act(ctx context.Context) {
	switch k := n.rnd.IntN(100); {
	case k < 70:
		n.talk(ctx, n.rnd, 1)
	case k < 80:
		n.wire.cut()
	case k < 88:
		for range 5 {
			if to := n.d.anybody(n.rnd); n.d.mayBefriend(n.uid, to) {
				if err := n.sess.Apply(ctx, to, "hello from "+strconv.Itoa(int(n.uid)), ""); err != nil && client.CodeOf(err) == client.CodeOK {
					n.d.ledger.fault("apply of %d to %d: %v", n.uid, to, err)
				}
				break
			}
		}
	default:
		n.approve(ctx)
	}
}

// approve accepts all friend requests.
func (n *native) approve(ctx context.Context) {
	n.mu.Lock()
	asked := n.asked
	n.asked = nil
	n.mu.Unlock()
	for _, from := range asked {
		n.d.noteFriends(n.uid, from)
		// If the connection breaks, the next call tries again.
		_, _ = n.sess.Approve(ctx, from, "")
	}
}

// talk posts texts to a friend without waiting for the answers.
func (n *native) talk(ctx context.Context, rnd *rand.Rand, count int) {
	friends := n.friends()
	if len(friends) > 0 {
		n.post(ctx, friends[rnd.IntN(len(friends))], count)
	}
}

// friends returns the users to whom the session may write.
func (n *native) friends() (uids []int32) {
	for _, f := range n.sess.Friends() {
		uids = append(uids, f.UID)
	}
	return uids
}

func (n *native) post(ctx context.Context, peer int32, count int) {
	for range count {
		content := n.d.ledger.text(n.uid, peer)
		posted, err := n.sess.Post(ctx, client.User(peer), client.NewDraft(content))
		if err != nil {
			n.d.ledger.fault("post of %d: %v", n.uid, err)
			return
		}
		n.d.posts.Go(func() {
			switch sent, err := posted.Wait(ctx); {
			case err != nil:
				n.d.ledger.fault("text of %d to %d: %v", n.uid, peer, err)
			case sent.MessageID > 0:
				n.d.ledger.answered(content)
			}
		})
	}
}
