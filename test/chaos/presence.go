//go:build linux

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"parley/client"
	"parley/internal/rpc"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/statusservice"
	"parley/lab/faultproxy"
	"parley/lab/launch"
)

// redisFlushed implements bar P6.
func redisFlushed(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, standard)
	if err != nil {
		return err
	}
	c, err := l.crowd(ctx, w.N(100, 20), nil, client.SessionOptions{})
	if err != nil {
		return err
	}
	uids := make([]int32, len(c.People))
	for i, p := range c.People {
		uids[i] = p.UID
	}
	c.talk(ctx, float64(w.N(200, 50)), 0)
	rebuilt := func(what string) error {
		begun := time.Now()
		err := until(ctx, 60*time.Second, "everybody is online again", func() (bool, error) {
			n, err := l.countOnline(ctx, uids)
			return err == nil && n == len(uids), fmt.Errorf("%d online, %v", n, err)
		})
		if err == nil {
			AtMost(r, "online again after "+what, time.Since(begun), 21*time.Second)
		}
		return err
	}
	pause(ctx, 2*time.Second)
	if err := l.rdb.FlushAll(ctx).Err(); err != nil {
		return err
	}
	if err := rebuilt("FLUSHALL"); err != nil {
		return err
	}
	pause(ctx, 2*time.Second)
	if err := l.Redis.Restart(ctx); err != nil {
		return err
	}
	if err := rebuilt("a restart"); err != nil {
		return err
	}
	pause(ctx, 2*time.Second)
	return c.end(ctx, r, 30*time.Second)
}

// slowRedis implements bar P7.
func slowRedis(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 3, Status: 1}.with("redis"))
	if err != nil {
		return err
	}
	n := w.N(300, 60)
	first, err := l.users(ctx, n)
	if err != nil {
		return err
	}
	var uids []int32
	for node := range l.Chat {
		at := first + int32(node*n/3)
		raws, err := l.crowdRaw(ctx, at, n/3, node, native(), rawOptions{})
		defer closeAll(raws)
		if err != nil {
			return err
		}
		uids = append(uids, span(at, n/3)...)
	}
	for _, node := range l.Chat {
		l.link(node.Name() + "-redis").SetBoth(faultproxy.Faults{Latency: 25 * time.Millisecond, Jitter: 50 * time.Millisecond})
	}
	begun := time.Now()
	worst := 0
	for time.Since(begun) < w.D(60*time.Second, 15*time.Second) && ctx.Err() == nil {
		online, err := l.countOnline(ctx, uids)
		if err != nil {
			return err
		}
		worst = max(worst, len(uids)-online)
		pause(ctx, 200*time.Millisecond)
	}
	failed := 0.0
	for _, node := range l.Chat {
		m, err := metrics(ctx, node)
		if err != nil {
			return err
		}
		failed += m["parley_chat_lease_failures_total"] + m["parley_chat_fenced_total"]
	}
	r.Note("sessions", len(uids))
	r.Zero("falsely offline", int64(worst))
	r.Zero("failed refreshes of leases", int64(failed))
	return nil
}

// skewedClock implements bar P8. It sets the clock by which a node signs its calls and checks those of others, which
// is possible in a build with seeded faults.
func skewedClock(ctx context.Context, w *World, r *Report) error {
	bin, err := w.suite.seededBin(ctx)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		off      time.Duration
		accepted bool
	}{{20 * time.Second, true}, {-20 * time.Second, true}, {time.Hour, false}, {-time.Hour, false}} {
		if w.Short && c.off < 0 {
			continue
		}
		if err := skewedBy(ctx, w, r, bin, c.off, c.accepted); err != nil {
			return fmt.Errorf("clock off by %v: %w", c.off, err)
		}
	}
	return nil
}

func skewedBy(ctx context.Context, w *World, r *Report, bin string, off time.Duration, accepted bool) error {
	l, err := w.Start(ctx, Layout{Chat: 2, Bin: bin, Through: func(n *launch.Node, i int) []string {
		if n.Role() == launch.Chat && i == 1 {
			return []string{"/usr/bin/env", "PARLEY_SEEDED_CLOCK=" + off.String()}
		}
		return nil
	}})
	if err != nil {
		return err
	}
	first, threads, err := l.pairs(ctx, 1)
	if err != nil {
		return err
	}
	a, err := l.dial(ctx, first, 0, client.Options{Heartbeat: time.Minute})
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := l.dial(ctx, first+1, 1, client.Options{Heartbeat: time.Minute})
	if err != nil {
		return err
	}
	defer b.Close()
	before, err := l.online(ctx, []int32{first, first + 1})
	if err != nil {
		return err
	}
	if _, err := b.SendTexts(ctx, client.InThread(threads[0]), client.NewDraft("across")); err != nil {
		return err
	}
	pctx, cancel := context.WithTimeout(ctx, w.D(10*time.Second, 5*time.Second))
	defer cancel()
	pushed := false
	for !pushed {
		ev, err := a.Next(pctx)
		if err != nil {
			break
		}
		_, pushed = ev.(client.Texts)
	}
	pause(ctx, w.D(lease+2*time.Second, 3*time.Second)) // longer than a lease
	after, err := l.online(ctx, []int32{first, first + 1})
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%+v: ", off)
	if accepted {
		r.Is(name+"text pushed", pushed, "no push came")
	} else {
		m, err := metrics(ctx, l.Chat[0])
		if err != nil {
			return err
		}
		refused := 0.0
		for k, v := range m {
			if strings.HasPrefix(k, "parley_rpc_refused_total") || strings.HasPrefix(k, "parley_rpc_served_total") && strings.Contains(k, "unauthenticated") {
				refused += v
			}
		}
		AtLeast(r, name+"calls refused", refused, 1)
	}
	r.Is(name+"sessions and leases live", len(before[0]) == 1 && len(after[0]) == 1 && len(before[1]) == 1 && len(after[1]) == 1 && a.Err() == nil && b.Err() == nil,
		fmt.Sprint(before, after, a.Err(), b.Err()))
	return nil
}

// statusClient calls the first status node.
func (l *Lab) statusClient() (statusservice.Client, func(), error) {
	c := rpc.NewClient(rpc.ClientConfig{Auth: l.auth, Timeout: 10 * time.Second, MaxIdle: 16}, l.StatusAddr(0))
	s, err := statusservice.NewClient("statusnode", c.Options()...)
	return s, c.Close, err
}

// countsAgree implements bar P9.
func countsAgree(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 3, Status: 1})
	if err != nil {
		return err
	}
	status, closeStatus, err := l.statusClient()
	if err != nil {
		return err
	}
	defer closeStatus()
	n, cycles := w.N(3_000, 300), w.N(10, 2)
	first, err := l.users(ctx, n)
	if err != nil {
		return err
	}
	raws := make([]*Raw, n)
	defer func() { closeAll(raws) }()
	login := func(which []int) error {
		return each(len(which), 16, func(k int) error {
			i := which[k]
			return until(ctx, 30*time.Second, "a placement leads to a login", func() (bool, error) {
				rsp, err := status.GetChatServer(ctx, &message.GetChatServerReq{Uid: first + int32(i)})
				if err != nil || rsp.Error != 0 {
					return false, fmt.Errorf("GetChatServer: %v, %v", rsp, err)
				}
				raws[i], err = loginRaw(ctx, client.Ticket{Addr: rsp.Host + ":" + rsp.Port, UID: first + int32(i), Token: rsp.Token}, native(), rawOptions{})
				return err == nil, err
			})
		})
	}
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	if err := login(all); err != nil {
		return err
	}
	for range cycles {
		victim := l.Chat[w.Rand.IntN(3)]
		var there []int
		for i, c := range raws {
			if c.RemoteAddr().String() == victim.Addr() {
				there = append(there, i)
			}
		}
		// A node that dies within a second of a login has not reported that the login used its reservation. The
		// reservation then counts for 15 s more.
		pause(ctx, 2*time.Second)
		if err := victim.Restart(ctx); err != nil {
			return err
		}
		for _, i := range there {
			_ = raws[i].Close() // its node is dead
		}
		if err := login(there); err != nil {
			return err
		}
	}
	reality := make(map[string]int)
	for _, c := range raws {
		for _, node := range l.Chat {
			if c.RemoteAddr().String() == node.Addr() {
				reality[node.Name()]++
			}
		}
	}
	err = until(ctx, 10*time.Second, "the loads in Redis are those of the nodes", func() (bool, error) {
		m, err := l.rdb.HGetAll(ctx, "logincount").Result()
		if err != nil {
			return false, err
		}
		for name, want := range reality {
			if m[name] != fmt.Sprint(want) {
				return false, fmt.Errorf("redis %v, sessions %v", m, reality)
			}
		}
		return true, nil
	})
	r.Note("logins", n)
	r.Note("restarts", cycles)
	r.Is("loads equal reality", err == nil, err)
	least, most := n, 0
	for _, node := range l.Chat {
		least, most = min(least, reality[node.Name()]), max(most, reality[node.Name()])
	}
	AtMost(r, "nodes differ by percent", 100*float64(most-least)*3/float64(n), max(5, 600/float64(n)*5))
	return nil
}
