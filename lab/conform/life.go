package conform

import (
	"fmt"
	"slices"
	"time"

	"parley/internal/wire"
)

// rower logs a user in as a client that knows rows of private threads; it skips the check if the cluster does not.
func (a *attempt) rower(u *Account, device string) *conn {
	c := a.enter(a.login(u), fields{"client": "conform/1", "caps": []string{"batch", "resume", "gap", "rows"}, "device": device})
	granted, _ := c.welcome["caps"].([]any)
	if !slices.Contains(granted, any("rows")) {
		a.skipf("no rows of private threads here: 1006 does not grant them")
	}
	c.alive()
	return c
}

// row waits until a row of a private thread is pushed to c.
func (c *conn) row(thread, seq int64) object {
	for end := time.Now().Add(patience); ; {
		f, err := c.readFor(time.Until(end))
		if err != nil {
			c.a.failf("expected row %d of thread %d in a 2145, got %v", seq, thread, err)
		}
		if f.id != wire.MsgRowPush {
			continue
		}
		o := c.object(f)
		c.a.need("2145", o, "thread_id:i", "chat_datas:a")
		for _, r := range o.list("chat_datas") {
			c.a.need("2145 chat_datas", r, "sender:i", "msg_id:i", "thread_id:i", "unique_id:s", "msg_content:s", "chat_time:s", "status:i")
			if o.num("thread_id") == thread && r.num("msg_id") == seq {
				return r
			}
		}
	}
}

// change requests a recall or an edit, and returns the number of the row that announces it.
func (c *conn) change(id wire.MsgID, thread, seq int64, more fields, want int64) int64 {
	req := fields{"thread_id": thread, "msg_id": seq}
	for k, v := range more {
		req[k] = v
	}
	c.send(id, req)
	reply := c.until(id + 1)
	equal(c.a, fmt.Sprintf("error of %v", id+1), want, reply.num("error"))
	return reply.num("msg_id")
}

// find returns the row with a number.
func (a *attempt) find(rows []object, seq int64) object {
	for _, r := range rows {
		if r.num("msg_id") == seq {
			return r
		}
	}
	a.failf("expected row %d, got none", seq)
	return nil
}

// rowChecks check the capability "rows"; they are skipped if the 1006 does not grant it.
var rowChecks = []Check{
	{
		Name: "rows-own-devices", Doc: "what one device sends reaches the user's others as 2145, and not itself",
		run: func(a *attempt) {
			ux, uy, thread := a.friends()
			phone, desk := a.rower(ux, "phone"), a.rower(ux, "desk")
			// A node may learn with a delay that the user has a device on another node.
			for tries := 0; ; tries++ {
				seq := phone.text(a.uid(uy), thread, "to myself "+newUUID())[0].num("message_id")
				f, err := desk.readFor(time.Second)
				for err == nil && f.id != wire.MsgRowPush {
					f, err = desk.readFor(time.Second)
				}
				if err == nil {
					rows := desk.object(f).list("chat_datas")
					equal(a, "number", seq, rows[len(rows)-1].num("msg_id"))
					equal(a, "sender", int64(phone.uid), rows[0].num("sender"))
					break
				}
				a.want(tries < 20, "expected a 2145 at the other device, got none")
			}
		},
	},
	{
		Name: "rows-recall", Doc: "a recall leaves the content nowhere, both members are told, and it may be repeated",
		run: func(a *attempt) {
			ux, uy, thread := a.friends()
			x, y := a.rower(ux, "conform"), a.rower(uy, "conform")
			secret := "secret " + newUUID()
			seq := x.text(y.uid, thread, secret)[0].num("message_id")
			y.change(wire.MsgRecall, thread, seq, nil, 2006)
			at := x.change(wire.MsgRecall, thread, seq, nil, 0)
			for _, c := range []*conn{x, y} {
				r := c.row(thread, at)
				equal(a, "kind", int64(wire.KindRecall), r.num("kind"))
				equal(a, "content", fmt.Sprintf(`{"event":"recalled","by":%d,"msg_id":%d}`, x.uid, seq), r.str("msg_content"))
			}
			equal(a, "msg_id of the second recall", 0, x.change(wire.MsgRecall, thread, seq, nil, 0))
			x.change(wire.MsgEdit, thread, seq, fields{"content": "back"}, 2006)
			gone := a.find(y.history(thread, 0), seq)
			equal(a, "content", "", gone.str("msg_content"))
			equal(a, "recalled", true, gone["recalled"] == true)

			stock := a.stock(uy)
			stock.load()
			equal(a, "content for a stock client", wire.RecalledContent, a.find(stock.history(thread, 0), seq).str("msg_content"))
			for _, r := range stock.history(thread, 0) {
				a.want(r["kind"] == nil, "expected texts only, got kind %v", r["kind"])
			}
		},
	},
	{
		Name: "rows-edit", Doc: "an edit replaces the content for everybody; its row brings the new content",
		run: func(a *attempt) {
			ux, uy, thread := a.friends()
			x, y := a.rower(ux, "conform"), a.rower(uy, "conform")
			seq := x.text(y.uid, thread, "teh")[0].num("message_id")
			y.change(wire.MsgEdit, thread, seq, fields{"content": "mine"}, 2006)
			x.change(wire.MsgEdit, thread, seq, fields{"content": ""}, 2005)
			at := x.change(wire.MsgEdit, thread, seq, fields{"content": "the"}, 0)
			for _, c := range []*conn{x, y} {
				r := c.row(thread, at)
				equal(a, "kind", int64(wire.KindEdit), r.num("kind"))
				var e wire.TextEvent
				a.ok("content of the row", wire.Decode([]byte(r.str("msg_content")), &e))
				a.want(e.MsgID == seq && e.Content != nil && *e.Content == "the" && e.EditedMS > 0, "expected the new content, got %s", r.str("msg_content"))
			}
			r := a.find(y.history(thread, 0), seq)
			equal(a, "content", "the", r.str("msg_content"))
			a.want(r["edited_ms"] != nil, "expected edited_ms, got none")
			stock := a.stock(uy)
			stock.load()
			equal(a, "content for a stock client", "the", a.find(stock.history(thread, 0), seq).str("msg_content"))
		},
	},
	{
		Name: "rows-hide", Doc: "texts deleted for a user are hidden on all of its devices, and left out for clients that do not know that",
		run: func(a *attempt) {
			ux, uy, thread := a.friends()
			x, y := a.rower(ux, "conform"), a.rower(uy, "conform")
			seq := y.text(x.uid, thread, "hide me")[0].num("message_id")
			y.text(x.uid, thread, "and not me")
			x.send(wire.MsgHide, fields{"thread_id": thread, "msg_ids": []int64{seq}})
			equal(a, "error of 2163", 0, x.until(wire.MsgHideRsp).num("error"))
			x.send(wire.MsgHide, fields{"thread_id": thread, "msg_ids": []int64{seq + 1000}})
			equal(a, "error of 2163", 2006, x.until(wire.MsgHideRsp).num("error"))
			r := a.find(x.history(thread, 0), seq)
			equal(a, "hidden", true, r["hidden"] == true)
			equal(a, "content", "", r.str("msg_content"))
			equal(a, "content for the other member", "hide me", a.find(y.history(thread, 0), seq).str("msg_content"))
			stock := a.stock(ux)
			stock.load()
			for _, r := range stock.history(thread, 0) {
				a.want(r.num("msg_id") != seq, "expected no hidden text, got it")
			}
		},
	},
	{
		Name: "rows-type", Doc: "a text's type is delivered to native clients; a stock client sees its name in brackets",
		run: func(a *attempt) {
			ux, uy, thread := a.friends()
			x, y, stock := a.rower(ux, "conform"), a.rower(uy, "conform"), a.stock(uy)
			stock.load()
			send := func(typ string) (reply object) {
				id := newUUID()
				for tries := 0; tries < 50; tries++ { // other checks may have used up the user's limit
					reply = x.sendTexts(y.uid, thread, []fields{{"content": "ref:1", "unique_id": id, "type": typ}})[0]
					if reply.num("code") != 2003 {
						break
					}
					time.Sleep(100 * time.Millisecond)
				}
				return reply
			}
			sent := []object{send("image/png"), send("NO")}
			equal(a, "code", 0, sent[0].num("code"))
			equal(a, "code", 2005, sent[1].num("code"))
			got := y.until(1019).list("chat_datas")[0]
			equal(a, "type", "image/png", got.str("type"))
			equal(a, "content", "ref:1", got.str("content"))
			old := stock.until(1019).list("chat_datas")[0]
			equal(a, "content for a stock client", "[image/png]", old.str("content"))
			a.want(old["type"] == nil, "expected no type for a stock client, got %v", old["type"])
			equal(a, "type in history", "image/png", a.find(y.history(thread, 0), sent[0].num("message_id")).str("type"))
		},
	},
	{
		Name: "rows-capability", Doc: "a native client without the capability is refused with 2006 and sent no 2145; a stock client is not answered",
		run: func(a *attempt) {
			ux, uy, thread := a.friends()
			x, y, plain := a.rower(ux, "conform"), a.native(uy, "plain"), a.stock(uy)
			plain.load()
			seq := x.text(y.uid, thread, "hello")[0].num("message_id")
			x.change(wire.MsgEdit, thread, seq, fields{"content": "hello!"}, 0)
			for _, id := range []wire.MsgID{wire.MsgRecall, wire.MsgEdit, wire.MsgHide} {
				y.send(id, fields{"thread_id": thread, "msg_id": seq, "msg_ids": []int64{seq}, "content": "x"})
				equal(a, fmt.Sprintf("error of %v", id+1), 2006, y.until(id+1).num("error"))
				plain.send(id, fields{"thread_id": thread, "msg_id": seq})
			}
			for _, c := range []*conn{y, plain} {
				// A stock client gets no answer while another frame is on its way to it.
				for answered, end := false, time.Now().Add(patience); !answered; {
					a.want(time.Now().Before(end), "expected a 1024, got none")
					c.send(1023, fields{})
					f, err := c.readFor(time.Second)
					for ; err == nil && !answered; f, err = c.readFor(100 * time.Millisecond) {
						a.want(f.id < wire.MsgRowPush, "expected nothing of rows, got %v", f.id)
						answered = f.id == wire.MsgHeartbeatRsp
					}
				}
			}
		},
	},
}
