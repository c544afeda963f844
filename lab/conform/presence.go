package conform

import (
	"slices"
	"time"

	"parley/internal/wire"
)

// watcher logs a user in as a client that knows presence; it skips the check if the cluster does not.
func (a *attempt) watcher(u *Account, device string) *conn {
	c := a.enter(a.login(u), fields{"client": "conform/1", "caps": []string{"batch", "resume", "gap", "presence"}, "device": device})
	granted, _ := c.welcome["caps"].([]any)
	if !slices.Contains(granted, any("presence")) {
		a.skipf("no presence here: 1006 does not grant it")
	}
	c.alive()
	return c
}

// watch sends a 2151 and returns the state of the first user.
func (c *conn) watch(uids ...int32) object {
	c.send(2151, fields{"uids": uids})
	o := c.until(2152)
	c.a.need("2152", o, "error:i", "states:a")
	states := o.list("states")
	equal(c.a, "states of 2152", int64(len(uids)), int64(len(states)))
	for i, s := range states {
		c.a.need("state", s, "uid:i", "online:b", "last_seen_min:i")
		equal(c.a, "uid of a state", int64(uids[i]), s.num("uid"))
	}
	if len(states) == 0 {
		return nil
	}
	return states[0]
}

// turns waits until a 2153 says that a user has gone online or offline.
func (c *conn) turns(uid int32, online bool) object {
	for {
		for _, s := range c.until(2153).list("states") {
			if s.num("uid") == int64(uid) && s["online"] == online {
				return s
			}
		}
	}
}

// setVisible sends a 2156.
func (c *conn) setVisible(visible bool) {
	c.send(2156, fields{"visible": visible})
	equal(c.a, "error of 2157", 0, c.until(2157).num("error"))
}

var presenceChecks = []Check{
	{
		Name: "presence-watch", Doc: "2151 has a friend's state, and 2153 its changes within two seconds, from whatever node; last_seen_min is when the friend left",
		run: func(a *attempt) {
			ux, uy, _ := a.friends()
			x := a.watcher(ux, "conform")
			before := time.Now().Unix() / 60
			y := a.watcher(uy, "conform")
			if x.watch(y.uid)["online"] != true {
				x.turns(y.uid, true)
			}
			phone := a.stock(uy)
			y.close()
			phone.close()
			gone := x.turns(y.uid, false)
			a.want(gone.num("last_seen_min") >= before && gone.num("last_seen_min") <= before+10, "expected last_seen_min about %d, got %d", before, gone.num("last_seen_min"))
			began := time.Now()
			stock := a.stock(uy)
			x.turns(y.uid, true)
			a.want(time.Since(began) < 10*time.Second, "expected a login to be told within some seconds, got it after %v", time.Since(began))
			stock.close()
			x.turns(y.uid, false)
			equal(a, "states of an empty 2151", 0, int64(len(x.watch())))
			a.stock(uy)
			x.silent(3 * time.Second)
		},
	},
	{
		Name: "presence-friends", Doc: "a stranger, a user who is not visible and one who ended the friendship look like one who was never seen",
		run: func(a *attempt) {
			ux, uy, _ := a.friends()
			x, y := a.watcher(ux, "conform"), a.watcher(uy, "conform")
			z := a.native(a.third(), "conform")
			unseen := func(what string, s object, uid int32) {
				a.want(s.num("uid") == int64(uid) && s["online"] == false && s.num("last_seen_min") == 0, "expected %s not to be seen, got %v", what, s)
			}
			y.setVisible(true)
			unseen("a stranger", x.watch(z.uid, y.uid), z.uid)
			if x.watch(y.uid, z.uid)["online"] != true {
				x.turns(y.uid, true)
			}
			y.setVisible(false)
			unseen("a user who is not visible", x.turns(y.uid, false), y.uid)
			y.send(2156, fields{})
			equal(a, "visible of 2157", any(false), y.until(2157)["visible"])
			unseen("a user who is not visible", x.watch(y.uid), y.uid)
			y.setVisible(true)
			x.turns(y.uid, true)
			equal(a, "error of 2106", 0, y.ask(2105, x.uid))
			unseen("a user who ended the friendship", x.turns(y.uid, false), y.uid)
			a.befriend(ux, uy)
			x.turns(y.uid, true)
		},
	},
	{
		Name: "presence-typing", Doc: "2154 brings the friend a 2155, at most one per 3 s; it is never answered, and a stranger's goes nowhere",
		run: func(a *attempt) {
			ux, uy, thread := a.friends()
			x, y := a.watcher(ux, "conform"), a.watcher(uy, "conform")
			z := a.watcher(a.third(), "conform")
			for range 3 {
				z.send(2154, fields{"thread_id": thread})
				x.send(2154, fields{"thread_id": thread})
			}
			got := y.until(2155)
			equal(a, "uid of 2155", int64(x.uid), got.num("uid"))
			equal(a, "thread_id of 2155", thread, got.num("thread_id"))
			for _, c := range []*conn{x, y, z} {
				c.silent(400 * time.Millisecond)
			}
		},
	},
	{
		Name: "presence-stock", Rules: []string{"R21"}, Doc: "clients without the capability presence see nothing of it: 2151 and 2156 are refused with 2006 or ignored",
		run: func(a *attempt) {
			ux, uy, thread := a.friends()
			y := a.watcher(uy, "conform")
			plain, stock := a.native(ux, "plain"), a.stock(ux)
			for _, id := range []int{2151, 2156} {
				plain.send(wire.MsgID(id), fields{"uids": []int32{y.uid}, "visible": false})
				equal(a, "error of a client without presence", 2006, plain.until(wire.MsgID(id+1)).num("error"))
			}
			stock.load()
			for _, id := range []int{2151, 2154, 2156} {
				stock.send(wire.MsgID(id), fields{"uids": []int32{y.uid}, "visible": false, "thread_id": thread})
			}
			plain.send(2154, fields{"thread_id": thread})
			y.send(2154, fields{"thread_id": thread})
			for _, c := range []*conn{plain, stock, y} {
				c.silent(1500 * time.Millisecond)
			}
			stock.alive()
		},
	},
	{
		Name: "presence-bounds", Doc: "more than 500 users are refused with 2005, too many 2151 with 2003, and what follows is served",
		run: func(a *attempt) {
			ux, uy, _ := a.friends()
			x := a.watcher(ux, "conform")
			y := a.native(uy, "conform")
			x.send(2151, fields{"uids": make([]int32, 501)})
			equal(a, "error of 2152 for 501 users", 2005, x.until(2152).num("error"))
			code := int64(0)
			for n := 0; n < 40 && code == 0; n++ {
				x.send(2151, fields{"uids": []int32{y.uid}})
				code = x.until(2152).num("error")
			}
			equal(a, "error of 2152 after many", 2003, code)
			time.Sleep(1500 * time.Millisecond)
			x.watch(y.uid)
		},
	},
}
