package conform

import (
	"fmt"
	"slices"
	"time"

	"parley/internal/wire"
)

// marker logs a user in as a client that knows groups and read marks; it skips the check if the cluster does not.
func (a *attempt) marker(u *Account, device string) *conn {
	c := a.enter(a.login(u), fields{"client": "conform/1", "caps": []string{"batch", "resume", "gap", "groups", "marks"}, "device": device})
	granted, _ := c.welcome["caps"].([]any)
	if !slices.Contains(granted, any("marks")) {
		a.skipf("no read marks here: 1006 does not grant them")
	}
	c.alive()
	return c
}

// mark sends a mark and verifies what is then stored.
func (c *conn) mark(thread, read, recv, wantRead, wantRecv int64) {
	c.send(wire.MsgMark, fields{"thread_id": thread, "read": read, "recv": recv})
	reply := c.until(wire.MsgMarkRsp)
	c.a.need("2147", reply, "error:i", "thread_id:i", "read:i", "recv:i")
	equal(c.a, "error of 2147", 0, reply.num("error"))
	equal(c.a, "thread of 2147", thread, reply.num("thread_id"))
	equal(c.a, "read of 2147", wantRead, reply.num("read"))
	equal(c.a, "recv of 2147", wantRecv, reply.num("recv"))
}

// marked waits until c is told that a user has read a thread up to a message.
func (c *conn) marked(thread int64, uid int32, read int64) {
	for end := time.Now().Add(patience); ; {
		f, err := c.readFor(time.Until(end))
		if err != nil {
			c.a.failf("expected a 2148 that user %d has read up to %d, got %v", uid, read, err)
		}
		if f.id != wire.MsgMarkPush {
			continue
		}
		o := c.object(f)
		c.a.need("2148", o, "thread_id:i", "marks:a")
		for _, m := range o.list("marks") {
			c.a.need("2148 marks", m, "uid:i", "read:i", "recv:i")
			if o.num("thread_id") == thread && m.num("uid") == int64(uid) && m.num("read") >= read {
				return
			}
		}
	}
}

// unmarked fails if c is told of a mark before it is answered.
func (c *conn) unmarked() {
	c.send(1023, fields{})
	for {
		f := c.read()
		c.a.want(f.id != wire.MsgMarkPush, "expected no 2148, got one")
		if f.id == wire.MsgHeartbeatRsp {
			return
		}
	}
}

// listed returns a thread's element of the 1026.
func (c *conn) listed(thread int64) object {
	for _, t := range c.threads() {
		if t.num("thread_id") == thread {
			return t
		}
	}
	c.a.failf("expected thread %d in 1026, got none", thread)
	return nil
}

// code sends a request about a thread and returns the error code of the answer.
func (c *conn) code(id wire.MsgID, thread int64) int64 {
	c.send(id, fields{"thread_id": thread, "read": 1})
	return c.until(id + 1).num("error")
}

// markChecks check read marks; they are skipped if the 1006 does not grant "marks".
var markChecks = []Check{
	{
		Name: "mark-grows", Doc: "2146 raises the mark of all of the user's devices and never lowers it; read raises recv; a mark ends with the thread",
		run: func(a *attempt) {
			ux, uy, thread := a.friends()
			phone, desk, y := a.marker(ux, "phone"), a.marker(ux, "desk"), a.marker(uy, "conform")
			last := y.text(phone.uid, thread, "one", "two", "three")[2].num("message_id")
			phone.mark(thread, last-2, last-1, last-2, last-1)
			desk.mark(thread, last-3, 0, last-2, last-1)
			desk.mark(thread, last-1, 0, last-1, last-1)
			phone.mark(thread, 0, 0, last-1, last-1)
			phone.mark(thread, last+1000, 0, last, last)
			y.send(wire.MsgMarks, fields{"thread_id": thread})
			reply := y.until(wire.MsgMarksRsp)
			a.need("2150", reply, "error:i", "thread_id:i", "marks:a", "load_more:b")
			found := false
			for _, m := range reply.list("marks") {
				found = found || m.num("uid") == int64(phone.uid) && m.num("read") == last && m.num("recv") == last
			}
			a.want(found, "expected the mark in 2150, got %v", reply)
		},
	},
	{
		Name: "mark-push", Doc: "2148 tells the user's other devices and the friend of a mark, until the two are friends no more; not the session that sent it",
		run: func(a *attempt) {
			ux, uy, thread := a.friends()
			phone, desk, y := a.marker(ux, "phone"), a.marker(ux, "desk"), a.marker(uy, "conform")
			// Nodes tell each other where a user's devices are, so the first mark may reach only some of them.
			for tries := 0; ; tries++ {
				content := "to all devices " + newUUID()
				last := y.text(phone.uid, thread, content)[0].num("message_id")
				if !phone.brings(content, time.Second) || !desk.brings(content, time.Second) {
					a.want(tries < 20, "expected a text at 2 devices, got it at one")
					continue
				}
				phone.mark(thread, last, 0, last, last)
				y.marked(thread, phone.uid, last)
				desk.marked(thread, phone.uid, last)
				phone.unmarked()
				break
			}
			last := y.text(phone.uid, thread, "bye")[0].num("message_id")
			phone.send(2105, fields{"uid": y.uid})
			equal(a, "error of 2106", 0, phone.until(2106).num("error"))
			phone.mark(thread, last, 0, last, last)
			y.unmarked()
			equal(a, "thread of friends again", thread, a.befriend(uy, ux))
		},
	},
	{
		Name: "mark-unread", Doc: "1026 and 2103 count the unread texts of others, not those before the user's own newest text and no events, up to 100",
		run: func(a *attempt) {
			u := a.people(3)
			x, y := a.marker(u[0], "conform"), a.marker(u[1], "conform")
			thread := x.found("to be read", y.uid)
			p := &party{a: a, thread: thread, owner: x}
			for i := range 3 {
				p.say(x, fmt.Sprint("text ", i))
			}
			p.must(x, 2130, fields{"name": "to be read too"})
			t := y.listed(thread)
			equal(a, "unread", 3, t.num("unread"))
			y.mark(thread, 2, 0, 2, 2) // the event of the group's creation and a text
			t = y.listed(thread)
			equal(a, "unread after a mark", 2, t.num("unread"))
			equal(a, "read", 2, t.num("read"))
			y.send(2102, fields{"cursors": []fields{{"thread_id": thread, "seq": 4}}})
			parts := y.until(2103).list("threads")
			equal(a, "threads of 2103", 1, len(parts))
			equal(a, "unread of 2103", 2, parts[0].num("unread"))
			p.say(y, "I have read all")
			equal(a, "unread after an own text", 0, y.listed(thread).num("unread"))
			x.marked(thread, y.uid, 2)
			equal(a, "unread texts of the other", 1, x.listed(thread).num("unread"))
		},
	},
	{
		Name: "mark-group", Doc: "in a group 2148 tells the authors of what was read, and nobody else; 2150 lists all members' marks",
		run: func(a *attempt) {
			u := a.people(4)
			x, y, z := a.marker(u[0], "conform"), a.marker(u[1], "conform"), a.marker(u[2], "conform")
			p := &party{a: a, owner: x, thread: x.found("readers", y.uid, z.uid)}
			first, second := p.say(x, "one"), p.say(y, "two")
			z.mark(p.thread, first, 0, first, first)
			x.marked(p.thread, z.uid, first)
			y.unmarked()
			z.mark(p.thread, second, 0, second, second)
			y.marked(p.thread, z.uid, second)
			x.unmarked()
			x.mark(p.thread, second, 0, second, second)
			page := p.must(y, 2149, fields{"limit": 1})
			a.want(page["load_more"] == true && len(page.list("marks")) == 1, "expected one mark and more, got %v", page)
			rest := p.must(y, 2149, fields{"after_uid": page.list("marks")[0].num("uid")})
			equal(a, "marks on the second page", 1, len(rest.list("marks")))
		},
	},
	{
		Name: "mark-refused", Doc: "2146 and 2149 of a user who is no member are refused with 2006, as those of a client without the capability; bad values with 2005",
		run: func(a *attempt) {
			u := a.people(3)
			x, outsider := a.marker(u[0], "conform"), a.marker(u[2], "conform")
			x.send(1027, fields{"other_id": a.uid(u[1])})
			thread := x.until(1028).num("thread_id")
			plain := a.native(u[1], "plain")
			for _, id := range []wire.MsgID{wire.MsgMark, wire.MsgMarks} {
				equal(a, fmt.Sprintf("error of %d for an outsider", id+1), 2006, outsider.code(id, thread))
				equal(a, fmt.Sprintf("error of %d without the capability", id+1), 2006, plain.code(id, thread))
				equal(a, fmt.Sprintf("error of %d for thread 0", id+1), 2005, x.code(id, 0))
			}
			equal(a, "error of 2147 for no thread", 2006, x.code(wire.MsgMark, 2147483600))
			x.send(wire.MsgMark, fields{"thread_id": thread, "read": -1})
			equal(a, "error of 2147 for a negative number", 2005, x.until(wire.MsgMarkRsp).num("error"))
			a.without("1026 threads", plain.listed(thread), "read", "recv", "unread", "peer_read", "peer_recv")
		},
	},
	{
		Name: "mark-stock", Doc: "a stock client sees no marks, and what it sends of them is not answered",
		run: func(a *attempt) {
			ux, uy, thread := a.friends()
			x, y := a.marker(ux, "conform"), a.marker(uy, "conform")
			last := y.text(x.uid, thread, "read me", "and me")[1].num("message_id")
			x.mark(thread, last-1, 0, last-1, last-1)
			stock := a.stock(uy)
			a.without("1026 threads", stock.listed(thread), "read", "recv", "unread", "peer_read", "peer_recv")
			x.mark(thread, last, 0, last, last)
			y.marked(thread, x.uid, last)
			stock.send(wire.MsgMark, fields{"thread_id": thread, "read": 1})
			stock.silent(400 * time.Millisecond)
		},
	},
}
