package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/lab/launch"
	"parley/lab/stockmodel"
)

// desk is what a user has beside the page: a Go client and a stock client. A friend uses a Go client.
type desk struct {
	gate           *client.Gate
	uid            int32
	native, friend *client.Session
	stock          *stockmodel.Process
	stalls         *stockmodel.Stalls
	wg             sync.WaitGroup

	mu  sync.Mutex // guards the following
	got map[*client.Session][]line
}

// line is a text in a history, as the script has it too.
type line struct {
	ID   int64  `json:"id"`
	Text string `json:"text"`
}

// newDesk makes the two users, nina and omar, friends, and logs them in.
func newDesk(ctx context.Context, t *testing.T, c *launch.Cluster) *desk {
	t.Helper()
	gate, err := client.NewGate(c.GateURL())
	require.NoError(t, err)
	d := &desk{gate: gate, got: map[*client.Session][]line{}}
	d.stalls, err = stockmodel.WatchStalls()
	require.NoError(t, err)
	for _, name := range []string{"nina", "omar"} {
		mail := name + "@example.com"
		require.NoError(t, gate.RequestCode(ctx, mail))
		digits, err := code(ctx, c, mail)
		require.NoError(t, err)
		_, err = gate.Register(ctx, client.Registration{Name: name, Email: mail, Password: name + "-secret", Code: digits})
		require.NoError(t, err)
	}
	d.native, d.friend = d.open(ctx, t, "nina"), d.open(ctx, t, "omar")
	d.uid = d.native.Profile().UID
	require.NoError(t, d.friend.Apply(ctx, d.uid, "hello", ""))
	_, err = d.native.Approve(ctx, d.friend.Profile().UID, "")
	require.NoError(t, err)
	d.stock, err = d.sit(ctx)
	require.NoError(t, err)
	return d
}

// open logs a user in with a Go client.
func (d *desk) open(ctx context.Context, t *testing.T, name string) *client.Session {
	t.Helper()
	s, err := client.Open(ctx, client.SessionOptions{
		Options: client.Options{Device: "go"}, Gate: d.gate, Email: name + "@example.com", Password: name + "-secret", Cursors: []client.Cursor{},
	})
	require.NoError(t, err)
	d.wg.Go(func() {
		for ev := range s.Events(context.Background()) {
			if texts, ok := ev.(client.Texts); ok {
				d.mu.Lock()
				for _, m := range texts.Messages {
					d.got[s] = append(d.got[s], line{m.ID, m.Text})
				}
				d.mu.Unlock()
			}
		}
	})
	return s
}

// sit logs nina in with a stock client that was just started.
func (d *desk) sit(ctx context.Context) (*stockmodel.Process, error) {
	ticket, err := d.gate.Login(ctx, "nina@example.com", "nina-secret")
	if err != nil {
		return nil, err
	}
	p := stockmodel.New(stockmodel.Options{Stalls: d.stalls, Patience: time.Minute})
	if code, err := p.Login(ctx, ticket.Addr, ticket.UID, ticket.Token); err != nil || code != 0 {
		return nil, errors.Join(fmt.Errorf("the stock client is refused with %d", code), err)
	}
	return p, p.Loaded(ctx)
}

func (d *desk) close() {
	d.stock.Logout()
	d.native.Close()
	d.friend.Close()
	d.wg.Wait()
	d.stalls.Stop()
}

// do says what the script wants to be said, and shows what there is to be read.
func (d *desk) do(ctx context.Context, q question) (string, error) {
	friend := d.friend.Profile().UID
	var err error
	switch q.What {
	case "stock":
		_, err = d.stock.Text(friend, q.Text)
	case "go":
		_, err = d.native.SendText(ctx, client.User(friend), q.Text)
	case "friend":
		_, err = d.friend.SendText(ctx, client.User(d.uid), q.Text)
	case "read":
		var all []client.Thread
		if all, err = d.friend.Threads(ctx); err == nil {
			_, err = d.friend.Mark(ctx, all[0].ID, all[0].LastID)
		}
	case "seen":
		return d.seen(ctx)
	case "again":
		if err = d.stock.Quiet(ctx); err == nil {
			d.stock.Logout()
			d.stock, err = d.sit(ctx)
		}
	default:
		err = fmt.Errorf("the script asks for %+v", q)
	}
	return "", err
}

// seen is what the clients show, and what they say about marks.
func (d *desk) seen(ctx context.Context) (string, error) {
	var out struct {
		Go     []line             `json:"go"`
		Friend []line             `json:"friend"`
		Stock  []string           `json:"stock"`
		Marks  client.ThreadMarks `json:"marks"`
		Theirs client.ThreadMarks `json:"theirs"` // the friend's
		Faults string             `json:"faults"` // of the stock client
	}
	for _, s := range []struct {
		of *client.Session
		to *client.ThreadMarks
	}{{d.native, &out.Marks}, {d.friend, &out.Theirs}} {
		all, err := s.of.Threads(ctx)
		if err != nil {
			return "", err
		}
		*s.to = all[0].ThreadMarks
	}
	for _, page := range d.stock.State().Pages {
		for _, text := range page {
			out.Stock = append(out.Stock, text.Content)
		}
	}
	var faults []string
	for _, f := range d.stock.Faults() {
		faults = append(faults, f.String())
	}
	out.Faults = strings.Join(faults, "; ")
	d.mu.Lock()
	defer d.mu.Unlock()
	out.Go, out.Friend = d.got[d.native], d.got[d.friend]
	text, err := json.Marshal(out)
	return string(text), err
}

// devices has one user at three clients at once.
func devices(t *testing.T, c *launch.Cluster) {
	d := newDesk(t.Context(), t, c)
	defer d.close()
	script(t, c, d.do, "devices.mjs")
}
