package day

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"parley/internal/wire"
	"parley/lab/stockmodel"
)

// computer is a machine with the stock client, used by one user or by two in turn.
type computer struct {
	d     *day
	rnd   *rand.Rand
	users []int32
	gen   stockmodel.Generation

	proc   *stockmodel.Process
	online bool // as far as the user knows

	approved bool // in this login
}

func (c *computer) newProcess() *stockmodel.Process {
	p := stockmodel.New(stockmodel.Options{
		Generation: c.gen, Patience: patience, Heartbeat: 2 * time.Second, Stalls: c.d.stalls,
		OnAnswer: func(t stockmodel.Text) {
			if t.Status == wire.StatusSent {
				c.d.ledger.answered(t.Content)
			} else {
				c.d.ledger.refusedAs(t.Content, wire.Code(t.Code))
			}
		},
	})
	c.d.addProcess(p)
	return p
}

func (c *computer) act(ctx context.Context) {
	if c.online && !c.proc.State().Online {
		c.d.ledger.fault("computer of %v: the server closed the connection", c.users)
		c.online = false
	}
	if !c.online {
		if c.rnd.IntN(12) == 0 {
			c.proc = c.newProcess() // the program was closed and started again
		}
		c.login(ctx, c.proc, c.users[c.rnd.IntN(len(c.users))], c.rnd.IntN(6) == 0)
		return
	}
	st := c.proc.State()
	switch n := c.rnd.IntN(100); {
	case n < 52:
		c.talk(st)
	case n < 60 && c.gen == stockmodel.M:
		c.befriend(st)
	case n < 68:
		for _, from := range st.Applied {
			c.d.noteFriends(st.UID, from)
			c.approved = true
			c.try(c.proc.Approve(from, "my friend "+strconv.Itoa(int(from))))
		}
	case n < 76:
		query := []string{"", "13800138000", "nobody at all", "day" + strconv.Itoa(int(c.d.anybody(c.rnd))), strconv.Itoa(int(c.d.anybody(c.rnd))), "0"}[c.rnd.IntN(6)]
		_, err := c.proc.Search(ctx, query)
		c.try(err)
	case n < 80:
		if len(st.Friends) > 0 && c.gen == stockmodel.M {
			_, err := c.proc.OpenChat(st.Friends[c.rnd.IntN(len(st.Friends))])
			c.try(err)
		}
	case n < 84:
		if c.gen == stockmodel.M {
			c.try(c.proc.Beat())
		}
	case n < 90:
		c.try(c.proc.Quiet(ctx))
		c.proc.Logout()
		c.online = false
	case n < 94:
		if c.rnd.IntN(2) == 0 || c.approved {
			// The answer to an approval in progress is lost with its connection, and a session that has read its
			// friends by then is not told.
			c.try(c.proc.Quiet(ctx))
		}
		c.proc.Cut()
		c.online = false
	default:
		c.elsewhere(ctx, st.UID)
	}
}

// try records that the connection was lost; act reports it.
func (c *computer) try(err error) {
	if err != nil && !errors.Is(err, stockmodel.ErrGone) {
		c.d.ledger.fault("computer of %v: %v", c.users, err)
	}
}

// talk sends one to three texts in one request to a friend, or none at all, as for a picture.
func (c *computer) talk(st stockmodel.State) {
	friends := c.d.friendsOf(st)
	if len(friends) == 0 {
		return
	}
	peer := friends[c.rnd.IntN(len(friends))]
	var texts []string
	for range []int{0, 1, 1, 1, 1, 1, 2, 3}[c.rnd.IntN(8)] {
		texts = append(texts, c.d.ledger.text(st.UID, peer))
	}
	_, err := c.proc.Text(peer, texts...)
	c.try(err)
}

// befriend sends a friend request. A process never forgets friends. So on a shared computer, if one user's friend
// becomes the other's, the client would overlook it; the test avoids that.
func (c *computer) befriend(st stockmodel.State) {
	for range 5 {
		if to := c.d.anybody(c.rnd); c.d.mayBefriend(st.UID, to) {
			c.try(c.proc.Apply(to, "hello from "+strconv.Itoa(int(st.UID)), "you"))
			return
		}
	}
}

// attempts bounds the login attempts of a user.
const attempts = 5

// login logs a user in while friends write. An impatient user disconnects before everything is loaded. Other users
// try again if the server is too busy, which it reports by a code, or by closing a connection whose client would
// otherwise wait for ever.
func (c *computer) login(ctx context.Context, p *stockmodel.Process, uid int32, impatient bool) {
	for range attempts {
		began := time.Now()
		token, err := c.d.w.token(ctx, uid)
		if err != nil {
			c.d.ledger.fault("token of %d: %v", uid, err)
			return
		}
		c.d.storm(uid, c.rnd)
		code, err := p.Login(ctx, c.d.w.addrs[c.rnd.IntN(len(c.d.w.addrs))], uid, token)
		switch {
		case err == nil && code == 0 && impatient:
			time.Sleep(time.Duration(c.rnd.IntN(200)) * time.Millisecond)
			p.Cut()
			return
		case err == nil && code == 0:
			err = p.Loaded(ctx)
		}
		if err == nil && code == 0 {
			c.d.ledger.login()
			c.online, c.approved = true, false
			return
		}
		if len(p.Faults()) > 0 {
			return
		}
		if code != int64(wire.CodeBusy) && code != int64(wire.CodeUnavailable) && !errors.Is(err, stockmodel.ErrGone) {
			c.d.ledger.fault("login of %d: code %d, %v", uid, code, err)
			return
		}
		c.d.ledger.tooBusy(c.d.stalls.Since(began))
	}
	c.d.ledger.fault("login of %d: the server is always too busy", uid)
}

// elsewhere has the user log in on another machine: the client on this one is told and closes.
func (c *computer) elsewhere(ctx context.Context, uid int32) {
	c.try(c.proc.Quiet(ctx))
	old := c.proc
	c.proc, c.online = c.newProcess(), false
	c.login(ctx, c.proc, uid, false)
	if !c.online {
		return
	}
	if !eventually(func() bool { return !old.State().Online }) {
		c.d.ledger.fault("user %d is logged in twice", uid)
	} else if !old.State().Kicked && len(old.Faults()) == 0 {
		c.d.ledger.fault("user %d was closed without 1021", uid)
	}
}
