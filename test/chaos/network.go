//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"parley/client"
	"parley/internal/wire"
	"parley/lab/faultproxy"
	"parley/lab/launch"
)

// fromAfar opens connections from the address to which the rules of a namespace apply.
func fromAfar(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(farAway)}, Timeout: 10 * time.Second}
	return d.DialContext(ctx, network, addr)
}

// cablePulled implements bar N2.
func cablePulled(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 1})
	if err != nil {
		return err
	}
	n := w.N(500, 60)
	first, err := l.users(ctx, n)
	if err != nil {
		return err
	}
	// Make connections to the stores first, which logins open once, so that they do not count as a leak.
	raws, err := l.crowdRaw(ctx, first, n, 0, native(), rawOptions{})
	closeAll(raws)
	if err != nil {
		return err
	}
	uids := span(first, n)
	err = until(ctx, 20*time.Second, "these are gone", func() (bool, error) {
		left, err := l.countOnline(ctx, uids)
		return err == nil && left == 0, err
	})
	if err != nil {
		return err
	}
	before, err := resourcesOf(ctx, l.Chat[0])
	if err != nil {
		return err
	}
	conns := make([]*client.Conn, n)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	const heartbeat = 5 * time.Second
	err = each(n, 16, func(i int) (err error) {
		conns[i], err = l.dial(ctx, uids[i], 0, client.Options{Heartbeat: heartbeat, Dial: fromAfar})
		return err
	})
	if err != nil {
		return err
	}
	if err := shells("iptables -A INPUT -s "+farAway+" -j DROP", "iptables -A INPUT -d "+farAway+" -j DROP"); err != nil {
		return err
	}
	cut := time.Now()
	var last time.Duration
	for left := n; left > 0 && time.Since(cut) < 60*time.Second && ctx.Err() == nil; {
		if left, err = l.countOnline(ctx, uids); err != nil {
			return err
		}
		if left > 0 {
			last = time.Since(cut)
		}
		pause(ctx, 100*time.Millisecond)
	}
	var now resources
	err = until(ctx, 30*time.Second, "descriptors and goroutines are back", func() (bool, error) {
		now, err = resourcesOf(ctx, l.Chat[0])
		return err == nil && now.fds <= before.fds+10 && now.goroutines <= before.goroutines+10, err
	})
	r.Note("clients", n)
	AtMost(r, "last seen online after", last, heartbeat*5/2+5*time.Second)
	r.Is("descriptors and goroutines back", err == nil, fmt.Sprintf("before %+v, now %+v", before, now))
	return nil
}

// packetLoss implements bar N3.
func packetLoss(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 2})
	if err != nil {
		return err
	}
	c, err := l.crowd(ctx, w.N(100, 20), nil, client.SessionOptions{Options: client.Options{Dial: fromAfar}})
	if err != nil {
		return err
	}
	if err := shells(
		"iptables -A INPUT -s "+farAway+" -m statistic --mode random --probability 0.05 -j DROP",
		"iptables -A INPUT -d "+farAway+" -m statistic --mode random --probability 0.05 -j DROP",
	); err != nil {
		return err
	}
	begun := time.Now()
	c.talk(ctx, float64(w.N(200, 60)), 0)
	pause(ctx, w.D(60*time.Second, 10*time.Second))
	ended := time.Now()
	c.hush()
	drops := 0
	for _, p := range c.People {
		drops += p.disconnections(begun, ended)
	}
	AtMost(r, "connections lost in percent", 100*float64(drops)/float64(len(c.People)), 1)
	AtMost(r, "p99 of acknowledgements", c.Oracle.p99(begun, ended), 3*time.Second)
	if err := shell("iptables", "-F"); err != nil {
		return err
	}
	return c.end(ctx, r, 30*time.Second)
}

// sliced implements bar N4.
func sliced(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 2}.with("client"))
	if err != nil {
		return err
	}
	begun := time.Now()
	c, err := l.crowd(ctx, 10, nil, client.SessionOptions{})
	if err != nil {
		return err
	}
	for _, n := range l.Chat {
		l.link(n.Name() + "-client").SetBoth(faultproxy.Faults{Slice: 1})
	}
	texts := w.N(10_000, 500)
	c.talk(ctx, float64(w.N(150, 60)), texts)

	// At the same time, send 100 frames in one write directly to a node.
	uid, threads, err := l.pairs(ctx, 1)
	if err != nil {
		return err
	}
	t, err := l.ticket(ctx, uid, 0)
	if err != nil {
		return err
	}
	t.Addr = l.Chat[0].Addr()
	raw, err := loginRaw(ctx, t, native(), rawOptions{})
	if err != nil {
		return err
	}
	defer raw.Close()
	var glued []byte
	const frames = 50
	for i := range frames {
		glued = append(glued, frame(wire.MsgText, textBody(threads[0], client.Draft{UniqueID: fmt.Sprintf("glued-%d", i), Text: "x"}))...)
		glued = append(glued, frame(wire.MsgHeartbeat, "{}")...)
	}
	raw.write(glued)
	stored := 0
	for stored < frames {
		rsp, err := raw.expect(wire.MsgTextRsp, 20*time.Second)
		if err != nil {
			return fmt.Errorf("glued frames, %d answered: %w", stored, err)
		}
		if rsp.stored() != 1 {
			break
		}
		stored++
	}
	c.awaitSaid()
	c.flush(ctx, 60*time.Second)
	drops := 0
	for _, p := range c.People {
		drops += p.disconnections(begun, time.Now())
	}
	bad := 0.0
	for _, n := range l.Chat {
		m, err := metrics(ctx, n)
		if err != nil {
			return err
		}
		bad += m["parley_chat_bad_frames_total"]
	}
	Equal(r, "glued texts stored", stored, frames)
	r.Zero("connections lost", int64(drops))
	r.Zero("bad frames", int64(bad))
	return c.end(ctx, r, 60*time.Second)
}

// connectReset implements bar N5.
func connectReset(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 1})
	if err != nil {
		return err
	}
	attack := func(n int) error {
		return each(n, 32, func(int) error {
			c, err := dialRaw(ctx, l.Chat[0].Addr(), rawOptions{})
			if err != nil {
				return err
			}
			c.reset()
			return nil
		})
	}
	if err := attack(500); err != nil { // growth on first use is not a leak
		return err
	}
	pause(ctx, 2*time.Second)
	before, err := resourcesOf(ctx, l.Chat[0])
	if err != nil {
		return err
	}
	n := w.N(10_000, 2_000)
	if err := attack(n); err != nil {
		return err
	}
	ended := time.Now()
	var now resources
	err = until(ctx, 30*time.Second, "all is back", func() (bool, error) {
		now, err = resourcesOf(ctx, l.Chat[0])
		return err == nil && now.fds <= before.fds+10 && now.goroutines <= before.goroutines+10, err
	})
	r.Note("connections", n)
	r.Is("descriptors and goroutines back", err == nil, fmt.Sprintf("before %+v, now %+v", before, now))
	AtMost(r, "within", time.Since(ended), 30*time.Second)
	m, err := metrics(ctx, l.Chat[0])
	if err != nil {
		return err
	}
	r.Zero("panics", int64(m["parley_chat_panics_total"]))
	return nil
}

// narrowLink implements bar N6.
func narrowLink(ctx context.Context, w *World, r *Report) error {
	if err := shells(
		"tc qdisc add dev lo root handle 1: htb default 10",
		"tc class add dev lo parent 1: classid 1:10 htb rate 10gbit quantum 60000",
		"tc class add dev lo parent 1: classid 1:20 htb rate 1mbit burst 32k quantum 60000",
		"tc filter add dev lo protocol ip parent 1: prio 1 u32 match ip dst "+farAway+"/32 flowid 1:20",
	); err != nil {
		return skip("traffic control: %v", err)
	}
	l, err := w.Start(ctx, Layout{Chat: 2, Configure: func(n *launch.Node, _ int, f *launch.INI) error { return nil }})
	if err != nil {
		return err
	}
	// Two pairs share the narrow link.
	first, threads, err := l.pairs(ctx, 2)
	if err != nil {
		return err
	}
	o := newOracle(w)
	var people []*Person
	defer func() {
		for _, p := range people {
			p.close()
		}
	}()
	for i, thread := range threads {
		o.pair(first+int32(2*i), first+int32(2*i)+1, thread)
		far, err := l.person(ctx, first+int32(2*i), thread, 0, o, client.SessionOptions{Options: client.Options{Dial: fromAfar}, SyncEvery: 10 * time.Second})
		if err != nil {
			return err
		}
		people = append(people, far)
		near, err := l.person(ctx, first+int32(2*i)+1, thread, 1, o, client.SessionOptions{})
		if err != nil {
			return err
		}
		people = append(people, near)
	}
	before := rssOf(l.Chat[0].Pid())
	stop := peak(l.Chat[0].Pid())
	begun := time.Now()
	for i := 0; time.Since(begun) < w.D(30*time.Second, 6*time.Second) && ctx.Err() == nil; i++ {
		for _, k := range []int{1, 3} {
			p := people[k]
			posted, err := p.Post(ctx, client.InThread(p.Thread), o.draftOf(p.UID, 4000))
			if err != nil {
				return err
			}
			p.posted <- posted
		}
		pause(ctx, time.Until(begun.Add(time.Duration(i+1)*30*time.Millisecond)))
	}
	sent := time.Now()
	fctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for _, k := range []int{1, 3} {
		if err := people[k].Flush(fctx); err != nil {
			return err
		}
	}
	// The backlog arrives at the link's width: allow twice the time and more.
	_, ok := o.settle(ctx, 3*time.Since(begun)+30*time.Second)
	r.memory("more memory", stop()-before, 32<<20)
	r.Is("caught up", ok, fmt.Sprintf("%v after the last text: %+v", time.Since(sent), o.counts()))
	r.Note("caught up after", time.Since(sent))
	return o.verdict(ctx, l, r)
}
