package conform

import (
	"time"

	"parley/internal/wire"
)

// pair returns two friends, logged in as native clients, and their thread. A check that ends their friendship must
// restore it.
func (a *attempt) pair() (ux, uy *Account, x, y *conn, thread int64) {
	ux, uy, thread = a.friends()
	return ux, uy, a.native(ux, "conform"), a.native(uy, "conform"), thread
}

// lacks fails if a list has an element with the given number.
func (a *attempt) lacks(what string, list []object, key string, n int64) {
	for _, o := range list {
		a.want(o.num(key) != n, "%s: expected none with %s %d, got one", what, key, n)
	}
}

// may sends a text and reports whether it was stored.
func (c *conn) may(to int32, thread int64) bool {
	return c.text(to, thread, "may I? "+newUUID())[0].num("status") == 2
}

// ask sends a native request about another user and returns the code of the answer.
func (c *conn) ask(id int, uid int32) int64 {
	c.send(wire.MsgID(id), fields{"uid": uid})
	return c.until(wire.MsgID(id + 1)).num("error")
}

// rightsChecks check what users may do to others and to their own accounts.
var rightsChecks = []Check{
	{
		Name: "rights-unfriend", Doc: "2105 ends a friendship for both, at once and on every node; the history stays, and the pair's thread is used again",
		run: func(a *attempt) {
			ux, uy, x, y, thread := a.pair()
			a.want(y.may(x.uid, thread), "expected a friend's text to be stored, got it refused")
			x.until(1019)
			equal(a, "error of 2106", 0, x.ask(2105, y.uid))
			equal(a, "error of 2106, again", 0, x.ask(2105, y.uid))
			equal(a, "error of 2106 for nobody", 1011, x.ask(2105, 2147483600))
			equal(a, "error of 2106 for oneself", 2006, x.ask(2105, x.uid))
			a.want(!y.may(x.uid, thread) && !x.may(y.uid, thread), "expected texts refused after the answer, got one stored")
			a.want(!y.may(x.uid, 0), "expected a text to the user refused, got it stored")
			x.send(1027, fields{"other_id": y.uid})
			equal(a, "error of 1028", 1012, x.until(1028).num("error"))
			a.want(len(y.history(thread, 0)) > 0, "expected the history to stay, got none")
			for i, u := range []*Account{ux, uy} {
				c := a.stock(u)
				a.lacks("friends of a later login", c.welcome.list("friend_list"), "uid", int64([]int32{y.uid, x.uid}[i]))
				a.lacks("threads of a stock client", c.load(), "thread_id", thread)
				c.close()
			}
			equal(a, "thread of friends again", thread, a.befriend(uy, ux))
		},
	},
	{
		Name: "rights-block", Doc: "2107: texts and threads as with a stranger, applications are answered and dropped; 2112 lists the blocked; 2109 lets them apply again",
		run: func(a *attempt) {
			ux, uy, x, y, thread := a.pair()
			equal(a, "error of 2108", 0, x.ask(2107, y.uid))
			a.want(!y.may(x.uid, thread) && !y.may(x.uid, 0) && !x.may(y.uid, thread), "expected texts refused after the answer, got one stored")
			y.send(1009, fields{"touid": x.uid, "applyname": "let me in", "bakname": ""})
			equal(a, "error of 1010", 0, y.until(1010).num("error"))
			y.send(1007, fields{"uid": ux.Name})
			equal(a, "uid of 1008", int64(x.uid), y.until(1008).num("uid"))
			x.silent(500 * time.Millisecond)
			a.lacks("applications of a later login", a.native(ux, "later").welcome.list("apply_list"), "uid", int64(y.uid))
			x.send(1013, fields{"touid": y.uid, "back": ""})
			equal(a, "error of 1014", 1011, x.until(1014).num("error"))
			x.send(1009, fields{"touid": y.uid, "applyname": "", "bakname": ""})
			equal(a, "error of 1010 to a blocked user", 2006, x.until(1010).num("error"))

			x.send(2111, fields{"after_uid": 0, "limit": 10})
			reply := x.until(2112)
			a.need("2112", reply, "error:i", "last_uid:i", "load_more:b", "blocked:a")
			list := reply.list("blocked")
			equal(a, "blocked users", 1, len(list))
			a.need("blocked", list[0], "uid:i", "name:s", "nick:s", "icon:s", "sex:i", "desc:s")
			equal(a, "uid of a blocked user", int64(y.uid), list[0].num("uid"))
			equal(a, "error of 2110", 0, x.ask(2109, y.uid))
			x.send(2111, fields{"after_uid": 0})
			equal(a, "blocked users after 2109", 0, len(x.until(2112).list("blocked")))
			a.want(!y.may(x.uid, thread), "expected nothing restored, got a text stored")
			a.befriend(uy, ux)
		},
	},
	{
		Name: "rights-devices", Doc: "2115 tells only the user's other devices of an unfriend, a block and an unblock",
		run: func(a *attempt) {
			ux, uy, x, y, _ := a.pair()
			desk := a.native(ux, "desk")
			for i, change := range []string{"unfriend", "block", "unblock"} {
				equal(a, "error of "+change, 0, x.ask(2105+2*i, y.uid))
				push := desk.until(2115)
				equal(a, "change of 2115", change, push.str("change"))
				equal(a, "uid of 2115", int64(y.uid), push.num("uid"))
			}
			x.silent(300 * time.Millisecond)
			y.silent(0)
			a.befriend(uy, ux)
		},
	},
	{
		Name: "rights-logout", Doc: "2113 ends this session and its ticket, or all sessions, tokens and tickets; 2114 is the last frame",
		run: func(a *attempt) {
			u := a.grow(0)
			resume := func(c *conn, device string) int64 {
				again := a.dial(c.addr)
				again.send(1005, fields{"uid": c.uid, "resume": c.welcome.str("resume"), "client": "conform/1", "caps": []string{"resume"}, "device": device})
				return again.expect(1006).num("error")
			}
			bye := func(c *conn, scope string) {
				c.send(2113, fields{"scope": scope})
				frames := c.closed(15 * time.Second)
				a.want(len(frames) > 0 && frames[len(frames)-1].id == 2114, "expected 2114 last, got %d frames without", len(frames))
				equal(a, "error of 2114", 0, c.object(frames[len(frames)-1]).num("error"))
			}
			phone, desk := a.native(u, "phone"), a.native(u, "desk")
			phone.send(2113, fields{"scope": "everything"})
			equal(a, "error of 2114 for a scope nobody knows", 2005, phone.until(2114).num("error"))
			bye(phone, "device")
			equal(a, "error of 1006 for its ticket", 1010, resume(phone, "phone"))
			desk.alive()
			phone, stock, unused := a.native(u, "phone"), a.stock(u), a.login(u)
			bye(phone, "all")
			for _, c := range []*conn{desk, stock} {
				c.until(1021)
				c.closed(15 * time.Second)
			}
			equal(a, "error of 1006 for another device's ticket", 1010, resume(desk, "desk"))
			late := a.dial(unused.addr)
			late.send(1005, fields{"uid": unused.uid, "token": unused.token})
			equal(a, "error of 1006 for a token of before", 1010, late.expect(1006).num("error"))
			time.Sleep(10 * time.Millisecond) // a token of the same millisecond counts as older
			a.native(u, "phone").alive()
		},
	},
	{
		Name: "rights-delete", Doc: "/delete_account: sessions end, name and address are free, searches do not find the user; a friend's history stays and stock clients load",
		run: func(a *attempt) {
			ux, uy := a.account(), a.grow(0)
			thread := a.befriend(ux, uy)
			x, y := a.native(ux, "conform"), a.native(uy, "conform")
			a.want(x.may(y.uid, thread), "expected a friend's text to be stored, got it refused")
			y.until(1019)
			body := func(passwd string) fields { return fields{"email": ux.Email, "passwd": transform(passwd)} }
			_, reply, err := a.post(a.ctx, "/delete_account", body("Wrong"+ux.Password))
			a.ok("post", err)
			equal(a, "error for a wrong password", 1009, reply.num("error"))
			_, reply, err = a.post(a.ctx, "/delete_account", body(ux.Password))
			a.ok("post", err)
			equal(a, "error of /delete_account", 0, reply.num("error"))
			x.until(1021)
			x.closed(15 * time.Second)
			_, reply, err = a.post(a.ctx, "/user_login", body(ux.Password))
			a.ok("post", err)
			equal(a, "error of /user_login", 1009, reply.num("error"))
			a.want(!y.may(x.uid, thread) && !y.may(x.uid, 0), "expected texts to a deleted user refused, got one stored")
			y.send(1007, fields{"uid": ux.Name})
			equal(a, "error of 1008", 1011, y.until(1008).num("error"))
			y.send(1009, fields{"touid": x.uid, "applyname": "", "bakname": ""})
			equal(a, "error of 1010", 1011, y.until(1010).num("error"))
			a.want(len(y.history(thread, 0)) > 1, "expected the history to stay, got less")
			p := a.process(uy) // a stock client, to be checked by healthy
			_, listed := p.State().Pages[thread]
			a.want(!listed, "expected the deleted user's thread not listed to a stock client, got it")

			again := *ux
			code, err := a.mailCode(a.ctx, again.Email)
			a.ok("code", err)
			_, reply, err = a.post(a.ctx, "/user_register", registration(&again, code))
			a.ok("register", err)
			equal(a, "error of /user_register with the same name and address", 0, reply.num("error"))
			a.want(reply.num("uid") != int64(x.uid), "expected another uid, got %d again", x.uid)
		},
	},
}
