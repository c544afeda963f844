package conform

import (
	"fmt"
	"time"
)

// nativeChecks check Parley's native extension; they are skipped if the 1006 grants no capabilities.
var nativeChecks = []Check{
	{
		Name: "native-welcome", Doc: "a client that announces itself gets caps, window, heartbeat_s, device and sid",
		run: func(a *attempt) {
			c := a.native(a.grow(0), "conform")
			a.need("1006", c.welcome, "caps:a", "window:i", "heartbeat_s:i", "sid:s", "device:s")
			equal(a, "device", "conform", c.welcome.str("device"))
			a.want(c.welcome.num("window") >= 1, "expected a window, got %d", c.welcome.num("window"))
		},
	},
	{
		Name: "native-resume", Rules: []string{"D9"}, Doc: "a resume ticket replaces the token, rotates, and the one before it is good until the new one was used",
		run: func(a *attempt) {
			t := a.login(a.grow(0))
			c := a.nativeAt(t, "conform")
			resume := func(ticket string) (*conn, int64) {
				c := a.dial(t.addr)
				c.uid = t.uid
				c.send(1005, fields{"uid": t.uid, "resume": ticket, "client": "conform/1", "caps": []string{"resume"}, "device": "conform"})
				c.welcome = c.expect(1006)
				return c, c.welcome.num("error")
			}
			first := c.welcome.str("resume")
			a.want(first != "", "expected a resume ticket, got none")
			second, code := resume(first)
			equal(a, "error of 1006", 0, code)
			next := second.welcome.str("resume")
			a.want(next != "" && next != first, "expected another ticket, got the same or none")
			third, code := resume(first) // as if the 1006 with the new ticket had been lost
			equal(a, "error of 1006 for the ticket before", 0, code)
			_, code = resume(third.welcome.str("resume"))
			equal(a, "error of 1006", 0, code)
			for _, bad := range []string{"nonsense", next + "x"} {
				_, code = resume(bad)
				equal(a, "error of 1006 for a wrong ticket", 1010, code)
			}
		},
	},
	{
		Name: "native-devices", Doc: "devices of one user live beside each other and beside a stock client; the same device replaces itself",
		run: func(a *attempt) {
			ux, uy, thread := a.friends()
			phone, desk, stock := a.native(ux, "phone"), a.native(ux, "desk"), a.stock(ux)
			stock.load()
			y := a.stock(uy)
			y.load()
			// Nodes tell each other where a user's devices are, so the first text may reach only some of them.
			for tries := 0; ; tries++ {
				content := "to all devices " + newUUID()
				y.text(phone.uid, thread, content)
				missing := 0
				for _, c := range []*conn{phone, desk, stock} {
					if !c.brings(content, time.Second) {
						missing++
					}
				}
				if missing == 0 {
					break
				}
				a.want(tries < 20, "expected a text at 3 devices, got it at %d", 3-missing)
			}
			again := a.native(ux, "phone")
			phone.until(1021)
			phone.closed(15 * time.Second)
			for _, c := range []*conn{again, desk, stock} {
				c.alive()
			}
		},
	},
	{
		Name: "native-sync", Rules: []string{"D51"}, Doc: "2102 returns what lies beyond the cursors, over all threads",
		run: func(a *attempt) {
			ux, uy, thread := a.friends()
			y := a.stock(uy)
			y.load()
			before := y.text(a.uid(ux), thread, "known")[0].num("message_id")
			var want []string
			for i := range 5 {
				want = append(want, fmt.Sprint("missed ", i))
				y.text(a.uid(ux), thread, want[i])
			}
			c := a.native(ux, "conform")
			c.send(2102, fields{"cursors": []fields{{"thread_id": thread, "seq": before}}})
			reply := c.until(2103)
			equal(a, "error of 2103", 0, reply.num("error"))
			threads := reply.list("threads")
			equal(a, "threads of 2103", 1, len(threads))
			got := threads[0].list("chat_datas")
			equal(a, "texts of 2103", len(want), len(got))
			for i := range got {
				equal(a, "text of 2103", want[i], got[i].str("msg_content"))
				equal(a, "number of a text", before+int64(i)+1, got[i].num("msg_id"))
			}
			c.send(2102, fields{"cursors": []fields{}})
			equal(a, "threads without cursors", 0, len(c.until(2103).list("threads")))
			c.send(2102, fields{"cursors": []fields{}, "all": true})
			a.want(len(c.until(2103).list("threads")) > 0, "expected threads with all, got none")
		},
	},
	{
		Name: "native-goodbye", Doc: "2101 with a reason is the last frame before the server closes",
		run: func(a *attempt) {
			c := a.native(a.grow(0), "conform")
			c.send(1005, fields{"uid": c.uid, "token": "x"})
			frames := c.closed(15 * time.Second)
			a.want(len(frames) > 0 && frames[len(frames)-1].id == 2101, "second login: expected 2101 last, got %d frames without", len(frames))
			a.need("2101", c.object(frames[len(frames)-1]), "error:i", "reason:s")
			c = a.native(a.grow(0), "conform")
			c.sendBytes([]byte{0x03, 0xEF, 0xFF, 0xFF})
			frames = c.closed(15 * time.Second)
			a.want(len(frames) > 0 && frames[len(frames)-1].id == 2101, "frame too long: expected 2101 last, got %d frames without", len(frames))
		},
	},
	{
		Name: "native-no-pacing", Rules: []string{"D57", "D60"}, Doc: "answers to a native client are not spaced, and keep the order of the requests",
		run: func(a *attempt) {
			c := a.native(a.grow(0), "conform")
			for i := range 15 {
				c.send(1007, fields{"uid": []string{jsonText(c.uid), "nobody at all"}[i%2]})
			}
			for i := range 15 {
				equal(a, "error of 1008", int64(i%2)*1011, c.until(1008).num("error"))
			}
			// A busy server may be slow: take the shortest of several bursts.
			span := c.burst(15)
			for try := 0; try < 4 && span >= 14*20*time.Millisecond; try++ {
				time.Sleep(300 * time.Millisecond) // a server may limit the requests of a client: 15 more are allowed after this
				span = min(span, c.burst(15))
			}
			a.want(span < 14*20*time.Millisecond, "expected 15 answers together, got them over %v", span)
		},
	},
	{
		Name: "native-unknown-id", Doc: "an unknown id is refused with 2005 in the id after it",
		run: func(a *attempt) {
			c := a.native(a.grow(0), "conform")
			c.send(2900, fields{})
			equal(a, "error", 2005, c.until(2901).num("error"))
			c.alive()
		},
	},
	{
		Name: "native-numbers", Rules: []string{"R12", "D30", "D37"}, Doc: "messages of a thread are numbered 1, 2, 3 …, the same for both",
		run: func(a *attempt) {
			ux, uy, thread := a.friends()
			x, y := a.native(ux, "conform"), a.native(uy, "conform")
			for i := range 10 {
				[]*conn{x, y}[i%2].text([]int32{y.uid, x.uid}[i%2], thread, fmt.Sprint("number ", i))
			}
			left, right := x.history(thread, 0), y.history(thread, 0)
			equal(a, "texts", len(left), len(right))
			for i := range left {
				equal(a, "number", int64(i+1), left[i].num("msg_id"))
				equal(a, "text", left[i].str("msg_content"), right[i].str("msg_content"))
			}
		},
	},
}
