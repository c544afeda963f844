package conform

import (
	"fmt"
	"time"

	"parley/internal/wire"
	"parley/lab/stockmodel"
)

// stockChecks use a model of the stock client, which crashes, hangs and shows texts twice where the real one does.
var stockChecks = []Check{
	{
		Name: "stock-spacing", Rules: []string{"D61", "D60"}, Doc: "frames to a stock client come one by one, 20 ms apart",
		run: func(a *attempt) {
			c := a.stock(a.grow(0))
			const n = 12
			// A late reader sees frames closer together than they were sent: take the longest of several bursts.
			var span time.Duration
			for try := 0; try < 5 && span < (n-2)*20*time.Millisecond; try++ {
				span = max(span, c.burst(n))
			}
			a.want(span >= (n-2)*20*time.Millisecond, "expected %d frames over %v or more, got them in %v", n, (n-2)*20*time.Millisecond, span)
		},
	},
	{
		Name: "stock-hold", Rules: []string{"R1", "R2", "D54"}, Doc: "nothing is pushed between 1006 and the last 1026, and no text of a thread before its last 1030",
		run: func(a *attempt) {
			ux, uy, thread := a.friends()
			applicant := a.third()
			y := a.stock(uy)
			y.load()
			x := a.stock(ux)
			z := a.stock(applicant)
			z.send(1009, fields{"uid": z.uid, "touid": x.uid, "applyname": "hi", "bakname": ""})
			z.expect(1010)
			held := newUUID()
			y.textAs(x.uid, thread, []string{held}, "early")
			x.silent(700 * time.Millisecond)
			x.send(1025, fields{"uid": x.uid, "thread_id": 0})
			x.expect(1026)
			x.expect(1011)
			x.silent(300 * time.Millisecond)
			found := 0
			for _, m := range x.history(thread, 0) {
				if m.str("unique_id") == held || m.str("msg_content") == "early" && m.num("sender") == int64(y.uid) {
					found++
				}
			}
			a.want(found > 0, "expected the early text in the history, got it without")
			x.silent(300 * time.Millisecond)
			later := y.text(x.uid, thread, "late")[0]
			equal(a, "unique_id of the 1019 after the load", later.str("unique_id"), x.expect(1019).list("chat_datas")[0].str("unique_id"))
		},
	},
	{
		Name: "stock-storm-at-login", Rules: []string{"R1", "R2", "R6", "R11", "D54"}, Doc: "texts that come while a client logs in and loads are shown once each",
		run: func(a *attempt) {
			ux, uy, thread := a.friends()
			y := a.stock(uy)
			y.load()
			for round := range 4 {
				p := stockmodel.New(a.stockOptions())
				a.procs = append(a.procs, p)
				storm := make(chan map[string]int, 1)
				go func() {
					ids := map[string]int{}
					for i := range 25 {
						id := newUUID()
						ids[id] = 0
						y.send(1017, fields{"fromuid": y.uid, "touid": a.uid(ux), "thread_id": thread, "text_array": []fields{{"content": fmt.Sprint("storm ", round, " ", i), "unique_id": id}}})
						time.Sleep(25 * time.Millisecond) // stay below any limit on the texts of a user
					}
					storm <- ids
				}()
				a.enterProcess(p, ux)
				a.loaded(p)
				ids := <-storm
				for range ids {
					equal(a, "status of a text", 2, y.until(1018).list("chat_datas")[0].num("status"))
				}
				a.shown(p, thread, ids)
				p.Logout()
			}
		},
	},
	{
		Name: "stock-new-friend", Rules: []string{"R2", "R4", "R22", "D54"}, Doc: "a friend made while a client is on, or is just logging in, can write to it at once",
		run: func(a *attempt) {
			for range 2 {
				ux, uy := a.strangers()
				x := a.process(ux)
				a.ok("apply", x.Apply(a.uid(uy), "hello", "y"))
				y := a.stock(uy)
				y.load()
				for i := 0; len(y.welcome.list("apply_list")) == 0 && i == 0; i++ {
					y.until(1011)
				}
				y.send(1013, fields{"fromuid": y.uid, "touid": a.uid(ux), "back": ""})
				reply := y.until(1014)
				equal(a, "error of 1014", 0, reply.num("error"))
				thread := reply.list("chat_datas")[0].num("thread_id")
				a.noteFriends(ux, uy, thread)
				ids := map[string]int{}
				for range 5 {
					ids[y.text(a.uid(ux), thread, "at once")[0].str("unique_id")] = 0
				}
				a.shown(x, thread, ids)
			}
		},
	},
	{
		Name: "stock-login-again", Rules: []string{"R5", "R8", "D29"}, Doc: "a process that logs in again, with what it remembers, has its list and every text once",
		run: func(a *attempt) {
			ux, uy, thread := a.friends()
			y := a.stock(uy)
			y.load()
			x := a.process(ux)
			for range 3 {
				before := len(x.State().Pages)
				x.Logout()
				ids := map[string]int{y.text(a.uid(ux), thread, "between logins")[0].str("unique_id"): 0}
				a.enterProcess(x, ux)
				a.loaded(x)
				ids[y.text(a.uid(ux), thread, "after the login")[0].str("unique_id")] = 0
				a.shown(x, thread, ids)
				equal(a, "rows of the chat list", before, len(x.State().Pages))
			}
		},
	},
	{
		Name: "stock-load-cut-short", Rules: []string{"R5", "R6"}, Doc: "a load cut short, then the same or another user in the same process: no crash, every text once",
		run: func(a *attempt) {
			ux, uy, thread := a.friends()
			other := a.third()
			x := a.process(ux)
			x.Logout()
			y := a.stock(uy)
			y.load()
			for i := range 4 {
				a.enterProcess(x, ux)
				time.Sleep(time.Duration(i*20) * time.Millisecond)
				x.Cut()
				if i%2 == 1 {
					a.enterProcess(x, other)
					a.loaded(x)
					x.Logout()
				}
				a.enterProcess(x, ux)
				ids := map[string]int{y.text(a.uid(ux), thread, "during the second load")[0].str("unique_id"): 0}
				a.loaded(x)
				a.shown(x, thread, ids)
				x.Logout()
			}
		},
	},
	{
		Name: "stock-refused-then-good", Rules: []string{"R7"}, Doc: "after a refused login the same process can try again at once",
		run: func(a *attempt) {
			u := a.grow(0)
			p := stockmodel.New(a.stockOptions())
			a.procs = append(a.procs, p)
			t := a.login(u)
			code, err := p.Login(a.ctx, t.addr, t.uid, "nonsense")
			a.healthy(p)
			a.ok("refused login", err)
			equal(a, "error of 1006", 1010, code)
			code, err = p.Login(a.ctx, t.addr, t.uid, t.token)
			a.healthy(p)
			a.ok("login", err)
			equal(a, "error of 1006", 0, code)
			a.loaded(p)
		},
	},
	{
		Name: "stock-whole-frames", Rules: []string{"R8", "R9", "D42", "D62"}, Doc: "a connection that ends, ends between two frames: half a one would spoil the next login of the process",
		run: func(a *attempt) {
			ux, uy, thread := a.friends()
			y := a.stock(uy)
			y.load()
			for range 5 {
				x := a.stock(ux)
				x.send(1025, fields{"uid": x.uid, "thread_id": 0})
				x.send(1029, fields{"thread_id": thread, "message_id": 0})
				a.stock(ux)
				frames := x.closed(15 * time.Second) // also fails on half a header
				var ids []wire.MsgID
				for _, f := range frames {
					ids = append(ids, f.id)
				}
				a.want(len(ids) > 0 && ids[len(ids)-1] == 1021, "expected 1021 as the last frame, got %v", ids)
			}
		},
	},
	{
		Name: "stock-searches", Rules: []string{"R6", "R18", "D14"}, Doc: "a client that searches for anything gets its spinner closed",
		run: func(a *attempt) {
			p := a.process(a.grow(0))
			for _, q := range []string{"", "13800138000", "nobody", jsonText(p.State().UID)} {
				_, err := p.Search(a.ctx, q)
				a.healthy(p)
				a.ok("search", err)
			}
		},
	},
}

// burst sends n requests at once and returns the time from their first answer to the last.
func (c *conn) burst(n int) time.Duration {
	for range n {
		c.send(1007, fields{"uid": jsonText(c.uid)})
	}
	c.until(1008)
	first := c.last.at
	for range n - 1 {
		c.until(1008)
	}
	return c.last.at.Sub(first)
}

// shown waits until the page of a thread shows each text in ids exactly once.
func (a *attempt) shown(p *stockmodel.Process, thread int64, ids map[string]int) {
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		for id := range ids {
			ids[id] = 0
		}
		for _, t := range p.State().Pages[thread] {
			if _, ours := ids[t.UniqueID]; ours {
				ids[t.UniqueID]++
			}
		}
		missing := 0
		for id, n := range ids {
			a.want(n <= 1, "expected each text once, got %s %d times", id, n)
			if n == 0 {
				missing++
			}
		}
		a.healthy(p)
		if missing == 0 {
			return
		}
		a.want(time.Now().Before(end), "expected %d texts to be shown, got %d of them missing", len(ids), missing)
	}
}
