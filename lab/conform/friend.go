package conform

import (
	"strconv"
	"time"
)

func jsonText(n int32) string { return strconv.Itoa(int(n)) }

var friendChecks = []Check{
	{
		Name: "friend-apply", Rules: []string{"R15", "R23", "D51", "D52", "D55"},
		Doc: "1009 is answered and the target told by 1011 with error 0; once more replaces the greeting; 1006 lists it once",
		run: func(a *attempt) {
			x, y := a.strangers()
			cx, cy := a.stock(x), a.stock(y)
			cx.load()
			cy.load()
			for _, greeting := range []string{"hello, it is me", "hello again, 你好"} {
				cx.send(1009, fields{"uid": cx.uid, "touid": cy.uid, "applyname": greeting, "bakname": "Y"})
				equal(a, "error of 1010", 0, cx.expect(1010).num("error"))
				push := cy.expect(1011)
				a.need("1011", push, "error:i", "applyuid:i", "name:s", "desc:s", "icon:s", "nick:s", "sex:i")
				equal(a, "error of 1011", 0, push.num("error"))
				equal(a, "applyuid", int64(cx.uid), push.num("applyuid"))
				equal(a, "desc", greeting, push.str("desc"))
				equal(a, "name", cx.welcome.str("name"), push.str("name"))
			}
			cy.close()
			count := 0
			for _, p := range a.stock(y).welcome.list("apply_list") {
				a.need("apply_list", p, "uid:i", "name:s", "nick:s", "icon:s", "sex:i", "desc:s", "status:i")
				if int32(p.num("uid")) == cx.uid {
					count++
					equal(a, "desc in apply_list", "hello again, 你好", p.str("desc"))
					equal(a, "status in apply_list", 0, p.num("status"))
				}
			}
			equal(a, "entries of the applicant in apply_list", 1, count)
		},
	},
	{
		Name: "friend-apply-list", Rules: []string{"D34"}, Doc: "apply_list holds the pending ones, oldest first, with name and icon",
		run: func(a *attempt) {
			target := a.account()
			var want []int64
			for i := range 3 {
				u := a.grow(i)
				if u == nil {
					a.skipf("needs three users")
				}
				a.use(u, target)
				c := a.stock(u)
				c.send(1009, fields{"uid": c.uid, "touid": a.uid(target), "applyname": "hi", "bakname": ""})
				equal(a, "error of 1010", 0, c.expect(1010).num("error"))
				want = append(want, int64(c.uid))
				c.close()
			}
			c := a.stock(target)
			got := c.welcome.list("apply_list")
			equal(a, "entries of apply_list", len(want), len(got))
			for i, p := range got {
				equal(a, "uid in apply_list", want[i], p.num("uid"))
				a.want(p.str("icon") != "" && p.str("name") != "", "expected name and icon, got %v", p)
			}
			c.load()
			c.send(1013, fields{"fromuid": c.uid, "touid": want[0], "back": ""})
			equal(a, "error of 1014", 0, c.until(1014).num("error")) // a 1011 that was on its way at the login may come too
			c.close()
			for _, p := range a.stock(target).welcome.list("apply_list") {
				a.want(p.num("uid") != want[0], "expected the accepted application gone, got it listed")
			}
		},
	},
	{
		Name: "friend-apply-refused", Rules: []string{"D8"}, Doc: "to oneself, to an unknown user and to a friend: 1010 with an error, and no 1011",
		run: func(a *attempt) {
			x, y, _ := a.friends()
			cx, cy := a.stock(x), a.stock(y)
			cy.load()
			for _, to := range []int32{cx.uid, cy.uid, 2147483600, 0, -1} {
				cx.send(1009, fields{"uid": cx.uid, "touid": to, "applyname": "hi", "bakname": ""})
				a.want(cx.expect(1010).num("error") != 0, "application to %d: expected a refusal, got success", to)
			}
			cy.silent(300 * time.Millisecond)
			cx.silent(0)
		},
	},
	{
		Name: "friend-approve", Rules: []string{"R14", "R22", "D18", "D33", "D55"},
		Doc: "1014 and 1015 carry the same stored messages, greeting first; the alias comes back in friend_list",
		run: func(a *attempt) {
			x, y := a.strangers()
			cx, cy := a.stock(x), a.stock(y)
			cx.load()
			cy.load()
			cx.send(1009, fields{"uid": cx.uid, "touid": cy.uid, "applyname": "let me in", "bakname": "my Y"})
			cx.expect(1010)
			cy.expect(1011)
			cy.send(1013, fields{"fromuid": cy.uid, "touid": cx.uid, "back": "my X"})
			reply, push := cy.expect(1014), cx.expect(1015)
			a.need("1014", reply, "error:i", "uid:i", "name:s", "nick:s", "icon:s", "sex:i", "chat_datas:a")
			a.need("1015", push, "error:i", "fromuid:i", "name:s", "nick:s", "icon:s", "sex:i", "chat_datas:a")
			equal(a, "uid of 1014", int64(cx.uid), reply.num("uid"))
			equal(a, "name of 1014", cx.welcome.str("name"), reply.str("name"))
			equal(a, "fromuid of 1015", int64(cy.uid), push.num("fromuid"))
			equal(a, "name of 1015", cy.welcome.str("name"), push.str("name"))
			left, right := reply.list("chat_datas"), push.list("chat_datas")
			a.want(len(left) == 2 && len(right) == 2, "expected two messages each, got %d and %d", len(left), len(right))
			for i := range left {
				a.need("chat_datas", left[i], "sender:i", "msg_id:i", "thread_id:i", "unique_id:s", "msg_content:s", "chat_time:s", "status:i")
				for _, k := range []string{"sender", "msg_id", "thread_id", "status"} {
					equal(a, k+" of 1014 and 1015", left[i].num(k), right[i].num(k))
				}
				equal(a, "msg_content of 1014 and 1015", left[i].str("msg_content"), right[i].str("msg_content"))
				equal(a, "status", 2, left[i].num("status"))
				a.want(left[i].num("thread_id") > 0, "expected a thread, got %d", left[i].num("thread_id"))
			}
			equal(a, "first message", "let me in", left[0].str("msg_content"))
			equal(a, "its sender", int64(cx.uid), left[0].num("sender"))
			equal(a, "sender of the second", int64(cy.uid), left[1].num("sender"))
			thread := left[0].num("thread_id")
			a.noteFriends(x, y, thread)

			// A repetition must be refused in a form that the client only logs, without a second 1015.
			cy.send(1013, fields{"fromuid": cy.uid, "touid": cx.uid, "back": ""})
			a.want(cy.expect(1014).num("error") != 0, "second approval: expected a refusal, got success")
			cx.silent(200 * time.Millisecond)
			cx.text(cy.uid, thread, "first words")
			equal(a, "thread of 1019", thread, cy.expect(1019).num("thread_id"))
			for u, alias := range map[*Account][2]any{x: {cy.uid, "my Y"}, y: {cx.uid, "my X"}} {
				for _, f := range a.stock(u).welcome.list("friend_list") {
					if int32(f.num("uid")) == alias[0].(int32) {
						equal(a, "back in friend_list", alias[1].(string), f.str("back"))
					}
				}
			}
		},
	},
	{
		Name: "friend-approve-offline", Rules: []string{"D18", "D51"}, Doc: "an applicant who is away changes nothing: 1014 has its messages, and the applicant finds the friend at the next login",
		run: func(a *attempt) {
			x, y := a.strangers()
			cx := a.stock(x)
			cx.send(1009, fields{"uid": cx.uid, "touid": a.uid(y), "applyname": "", "bakname": ""})
			cx.expect(1010)
			cx.close()
			cy := a.stock(y)
			cy.load()
			cy.send(1013, fields{"fromuid": cy.uid, "touid": cx.uid, "back": ""})
			reply := cy.until(1014) // as above
			equal(a, "error of 1014", 0, reply.num("error"))
			chats := reply.list("chat_datas")
			a.want(len(chats) >= 1, "expected chat_datas, got none")
			a.noteFriends(x, y, chats[0].num("thread_id"))
			p := a.process(x)
			st := p.State()
			equal(a, "texts in the new friend's page", len(chats), len(st.Pages[chats[0].num("thread_id")]))
		},
	},
	{
		Name: "friend-approve-nothing", Rules: []string{"D4", "D7"},
		Doc: "without a pending application to oneself an approval is refused, whatever fromuid says",
		run: func(a *attempt) {
			x, y := a.strangers()
			cx, cy := a.stock(x), a.stock(y)
			cx.send(1013, fields{"fromuid": cx.uid, "touid": cy.uid, "back": ""})
			a.want(cx.expect(1014).num("error") != 0, "no application: expected a refusal, got success")
			cx.send(1009, fields{"uid": cx.uid, "touid": cy.uid, "applyname": "hi", "bakname": ""})
			cx.expect(1010)
			for _, body := range []fields{
				{"fromuid": cy.uid, "touid": cx.uid, "back": ""}, // in the name of another user
				{"fromuid": cy.uid, "touid": cy.uid, "back": ""},
				{"fromuid": cx.uid, "touid": 2147483600, "back": ""},
			} {
				cx.send(1013, body)
				a.want(cx.expect(1014).num("error") != 0, "forged approval: expected a refusal, got success")
			}
			cx.send(1027, fields{"uid": cx.uid, "other_id": cy.uid})
			equal(a, "error of 1028 with a stranger", 1012, cx.expect(1028).num("error"))
		},
	},
	{
		Name: "friend-mutual", Rules: []string{"D31", "D32", "D30"},
		Doc: "two who apply to and approve each other at the same moment are friends once, with one thread",
		run: func(a *attempt) {
			x, y := a.strangers()
			cx, cy := a.stock(x), a.stock(y)
			cx.load()
			cy.load()
			cx.send(1009, fields{"uid": cx.uid, "touid": cy.uid, "applyname": "from x", "bakname": "y"})
			cx.until(1010)
			cy.send(1009, fields{"uid": cy.uid, "touid": cx.uid, "applyname": "from y", "bakname": "x"})
			cy.until(1010)
			replies := make([]object, 2)
			for i, c := range []*conn{cx, cy} {
				c.send(1013, fields{"fromuid": c.uid, "touid": []int32{cy.uid, cx.uid}[i], "back": ""})
			}
			for i, c := range []*conn{cx, cy} {
				replies[i] = c.until(1014)
			}
			won := int64(0)
			for _, r := range replies {
				if r.num("error") == 0 {
					chats := r.list("chat_datas")
					a.want(len(chats) > 0, "expected chat_datas, got none")
					a.want(won == 0 || won == chats[0].num("thread_id"), "expected one thread, got %d and %d", won, chats[0].num("thread_id"))
					won = chats[0].num("thread_id")
				}
			}
			a.want(won > 0, "expected one of two approvals to hold, got errors %v", replies)
			cx.close()
			cy.close()
			for _, pair := range [][2]*Account{{x, y}, {y, x}} {
				c, n := a.stock(pair[0]), 0
				for _, t := range c.load() {
					if other := int32(t.num("user1_id") + t.num("user2_id") - int64(c.uid)); other == a.uid(pair[1]) {
						n++
						equal(a, "thread", won, t.num("thread_id"))
					}
				}
				equal(a, "threads of the pair", 1, n)
			}
			a.noteFriends(x, y, won)
		},
	},
}

var threadChecks = []Check{
	{
		Name: "thread-list", Rules: []string{"R3", "R4", "R5", "R12", "R17"},
		Doc: "every friend's thread is listed, ascending, its peer in friend_list; the first 1025 of a session starts at 0 whatever it says",
		run: func(a *attempt) {
			x, _, _ := a.friends()
			c := a.stock(x)
			friends := map[int64]bool{}
			for _, f := range c.welcome.list("friend_list") {
				friends[f.num("uid")] = true
			}
			c.send(1025, fields{"uid": c.uid, "thread_id": 2147483000}) // as a process does that was logged in before
			page := c.expect(1026)
			threads := page.list("threads")
			equal(a, "uid of 1026", int64(c.uid), page.num("uid"))
			a.want(len(threads) > 0, "first 1025 with an old cursor: expected the list from its beginning, got none")
			last := int64(0)
			for _, t := range threads {
				a.need("threads", t, "thread_id:i", "type:s", "user1_id:i", "user2_id:i")
				a.want(t.num("thread_id") > last, "expected ascending ids, got %d after %d", t.num("thread_id"), last)
				last = t.num("thread_id")
				if t.str("type") == "group" {
					continue
				}
				peer := t.num("user1_id") + t.num("user2_id") - int64(c.uid)
				a.want(friends[peer], "expected peer %d of thread %d in friend_list, got it without", peer, last)
				delete(friends, peer)
			}
			if page["load_more"] == false {
				a.want(len(friends) == 0, "expected a thread with each friend, got none with %v", friends)
				c.send(1025, fields{"uid": c.uid, "thread_id": last})
				again := c.expect(1026)
				equal(a, "threads behind the last", 0, len(again.list("threads")))
				equal(a, "next_last_id of an empty page", last, again.num("next_last_id"))
			}
		},
	},
	{
		Name: "thread-open", Rules: []string{"D6", "D31", "D32"}, Doc: "1027 returns the one thread of two friends, from both sides and at once; with others it is 1012",
		run: func(a *attempt) {
			x, y, thread := a.friends()
			z := a.third()
			cx, cy := a.stock(x), a.stock(y)
			cx.load()
			cy.load()
			for range 3 {
				cx.send(1027, fields{"uid": cx.uid, "other_id": cy.uid})
				cy.send(1027, fields{"uid": cy.uid, "other_id": cx.uid})
			}
			for range 3 {
				for c, other := range map[*conn]int32{cx: cy.uid, cy: cx.uid} {
					got := c.expect(1028)
					equal(a, "error of 1028", 0, got.num("error"))
					equal(a, "thread_id of 1028", thread, got.num("thread_id"))
					equal(a, "uid of 1028", int64(c.uid), got.num("uid"))
					equal(a, "other_id of 1028", int64(other), got.num("other_id"))
				}
			}
			for _, other := range []int32{a.uid(z), cx.uid, 0, -1, 2147483600} {
				cx.send(1027, fields{"uid": cy.uid, "other_id": other})
				equal(a, "error of 1028", 1012, cx.expect(1028).num("error"))
			}
		},
	},
}
