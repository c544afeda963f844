package conform

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"parley/internal/wire"
)

// groupChecks check threads with more than two users; they are skipped if the 1006 does not grant "groups".
var groupChecks = append([]Check{
	{
		Name: "group-create", Doc: "2116 makes a group of the creator and friends, once per unique_id; its first message is the event; strangers are refused one by one",
		run: func(a *attempt) {
			u := a.people(4)
			x, y := a.grouper(u[0], "conform"), a.grouper(u[1], "conform")
			body := fields{"name": "读书会 📚", "unique_id": newUUID(), "uids": []int32{y.uid, a.uid(u[2]), a.uid(u[3]), 2147483600}}
			x.send(2116, body)
			reply := x.until(2117)
			a.need("2117", reply, "error:i", "thread_id:i", "msg_id:i", "refused:a")
			equal(a, "error of 2117", 0, reply.num("error"))
			equal(a, "msg_id of 2117", 1, reply.num("msg_id"))
			equal(a, "users refused", 2, len(reply["refused"].([]any)))
			p := &party{a: a, thread: reply.num("thread_id"), owner: x}
			for _, c := range []*conn{x, y} {
				e := event(p.pushed(c, 0))
				equal(a, "event", "created", e.str("event"))
				equal(a, "by", int64(x.uid), e.num("by"))
			}
			x.send(2116, body)
			equal(a, "thread of the same request again", p.thread, x.until(2117).num("thread_id"))
			for what, bad := range map[string]fields{
				"no name": {"name": "", "unique_id": "u"}, "a long name": {"name": strings.Repeat("n", 65), "unique_id": "u"},
				"a line break": {"name": "a\nb", "unique_id": "u"}, "no unique_id": {"name": "n"},
				"101 users": {"name": "n", "unique_id": "u", "uids": slices.Repeat([]int32{y.uid}, 101)},
			} {
				x.send(2116, bad)
				equal(a, "error of 2117 for "+what, 2005, x.until(2117).num("error"))
			}
			t := p.listed(y)
			a.want(t != nil, "expected the group in 1026, got none")
			a.need("1026 threads", t, "thread_id:i", "last_seq:i", "name:s", "members:i", "first_id:i")
			equal(a, "type", "group", t.str("type"))
			equal(a, "name", body["name"].(string), t.str("name"))
			equal(a, "members", 3, t.num("members"))
			info := p.must(y, 2118, nil)
			a.need("2119", info, "name:s", "owner:i", "members:i", "mute_all:b", "history_for_new:b", "role:i", "first_id:i", "last_seq:i", "left:i")
			equal(a, "owner", int64(x.uid), info.num("owner"))
			equal(a, "role", 0, info.num("role"))
			members := p.must(y, 2120, fields{"limit": 2})
			a.need("2121", members, "members:a", "last_uid:i", "load_more:b")
			a.want(members["load_more"] == true && len(members.list("members")) == 2, "expected a page of 2 members and more, got %v", members)
			rest := p.must(y, 2120, fields{"after_uid": members.num("last_uid")})
			equal(a, "members on the second page", 1, len(rest.list("members")))
			a.need("2121 members", rest.list("members")[0], "uid:i", "name:s", "nick:s", "icon:s", "role:i")
		},
	},
	{
		Name: "group-texts", Doc: "a text of a group reaches the other members on all nodes and the sender's other devices, under one number for all",
		run: func(a *attempt) {
			u := a.people(5)
			var list []*conn
			for _, who := range u[:4] {
				list = append(list, a.grouper(who, "conform"))
			}
			desk := a.grouper(u[1], "desk")
			p := &party{a: a, owner: list[0]}
			p.thread = p.owner.found("all", list[1].uid, list[2].uid, list[3].uid)
			const each = 10
			for i := range each {
				for _, c := range list {
					p.say(c, fmt.Sprintf("%d of %d", i, c.uid))
				}
			}
			last := int64(1 + each*len(list))
			var want []object
			for i, c := range append(list, desk) {
				got := c.history(p.thread, 0)
				a.numbers("history", got, 1, last)
				if i == 0 {
					want = got
				}
				for j := range got {
					equal(a, "text", want[j].str("msg_content"), got[j].str("msg_content"))
					equal(a, "sender", want[j].num("sender"), got[j].num("sender"))
				}
			}
			// The numbers of the pushes must have no holes, and the last push must not need the history.
			for _, c := range []*conn{list[2], list[3], desk} {
				for after := range last {
					if m := p.pushed(c, after); after > 0 {
						equal(a, "pushed text", want[after].str("msg_content"), m.str("msg_content"))
					}
				}
			}
			c := list[0]
			c.send(2102, fields{"cursors": []fields{{"thread_id": p.thread, "seq": last - 2}}})
			threads := c.until(2103).list("threads")
			equal(a, "threads of 2103", 1, len(threads))
			a.numbers("2103", threads[0].list("chat_datas"), last-1, last)
		},
	},
	{
		Name: "group-interval", Doc: "a member reads from its joining to its leaving: in 1029, 2102, 1026 and pushes; history_for_new opens what was before",
		run: func(a *attempt) {
			u := a.people(4)
			x, y, z := a.grouper(u[0], "conform"), a.grouper(u[1], "conform"), a.grouper(u[2], "conform")
			p := &party{a: a, owner: x, member: y}
			p.thread = x.found("interval", z.uid)
			p.say(x, "before")
			joined := p.must(x, 2122, fields{"uids": []int32{y.uid}}).num("msg_id")
			equal(a, "number of the invitation", 3, joined)
			equal(a, "event", "invited", event(p.pushed(y, joined-1)).str("event"))
			in := p.say(x, "in")
			p.pushed(y, joined)
			a.numbers("history of a new member", y.history(p.thread, 0), joined, in)
			equal(a, "first_id", joined, p.listed(y).num("first_id"))
			y.send(2102, fields{"cursors": []fields{{"thread_id": p.thread, "seq": 1}}})
			a.numbers("sync of a new member", y.until(2103).list("threads")[0].list("chat_datas"), joined, in)
			equal(a, "msg_id of inviting a member", 0, p.must(x, 2122, fields{"uids": []int32{y.uid}}).num("msg_id"))

			left := p.must(x, 2126, fields{"uid": y.uid}).num("msg_id")
			equal(a, "event", "removed", event(p.pushed(y, in)).str("event"))
			for i := range 5 {
				p.say(x, fmt.Sprint("out ", i))
			}
			p.say(z, "out")
			p.hearsNothing(y, left, 500*time.Millisecond)
			a.numbers("history of a former member", y.history(p.thread, 0), joined, left)
			t := p.listed(y)
			a.want(t != nil, "expected a group that was left in 1026, got none")
			equal(a, "left", left, t.num("left"))
			equal(a, "last_seq of a group that was left", left, t.num("last_seq"))
			y.send(2102, fields{"cursors": []fields{{"thread_id": p.thread, "seq": left}}, "all": false})
			equal(a, "threads of 2103", 0, len(y.until(2103).list("threads")))
			y.send(2142, fields{"code": p.link(600, 5)})
			equal(a, "error of 2143 for a removed user", 2006, y.until(2143).num("error"))

			again := p.must(x, 2122, fields{"uids": []int32{y.uid}}).num("msg_id")
			equal(a, "event", "invited", event(p.pushed(y, again-1)).str("event"))
			a.numbers("history of a member that came back", y.history(p.thread, 0), again, again)
			p.must(y, 2124, nil)
			p.must(x, 2130, fields{"history_for_new": true})
			last := p.must(x, 2122, fields{"uids": []int32{y.uid}}).num("msg_id")
			a.numbers("history with history_for_new", y.history(p.thread, 0), 1, last)
			p.must(y, 2124, nil)
			a.numbers("history after leaving", y.history(p.thread, 0), 1, last+1)
			a.want(y.text(0, p.thread, "after leaving")[0].num("code") == 2006, "expected the text of a former member refused, got it stored")
		},
	},
	{
		Name: "group-mute", Doc: "a muted member's texts are refused from the answer on until the time is over; mute_all lets only admins and the owner write",
		run: func(a *attempt) {
			p := a.party()
			code := func(c *conn) int64 { return c.text(0, p.thread, "may I? "+newUUID())[0].num("code") }
			equal(a, "code for a muted member", 2006, code(p.muted))
			p.must(p.admin, 2132, fields{"uid": p.muted.uid, "until_ms": 0})
			equal(a, "code after the mute was ended", 0, code(p.muted))
			p.must(p.admin, 2132, fields{"uid": p.muted.uid, "until_ms": time.Now().Add(1500 * time.Millisecond).UnixMilli()})
			equal(a, "code for a member muted for a moment", 2006, code(p.muted))
			for end := time.Now().Add(patience); code(p.muted) != 0; time.Sleep(200 * time.Millisecond) {
				a.want(time.Now().Before(end), "expected the mute to end by itself, got 2006 still")
			}
			p.must(p.owner, 2130, fields{"mute_all": true})
			for i, c := range []*conn{p.member, p.muted, p.admin, p.owner} {
				equal(a, "code while the group is muted", []int64{2006, 2006, 0, 0}[i], code(c))
			}
			a.want(p.must(p.member, 2118, nil)["mute_all"] == true, "expected mute_all in 2119, got none")
			p.must(p.owner, 2130, fields{"mute_all": false})
			equal(a, "code after the mute of the group", 0, code(p.member))
		},
	},
	{
		Name: "group-ranks", Doc: "an admin acts on members only; the owner cannot leave; a new owner makes the old one an admin; nobody acts on oneself",
		run: func(a *attempt) {
			p := a.party()
			until := time.Now().Add(time.Hour).UnixMilli()
			for what, victim := range map[string]int32{"owner": p.owner.uid, "admin": p.admin.uid, "outsider": p.outsider.uid} {
				equal(a, "error of 2127 for an admin and the "+what, 2006, p.ask(p.admin, 2126, fields{"uid": victim}))
				equal(a, "error of 2133 for an admin and the "+what, 2006, p.ask(p.admin, 2132, fields{"uid": victim, "until_ms": until}))
			}
			equal(a, "msg_id of 2127 for a former member", 0, p.must(p.admin, 2126, fields{"uid": p.former.uid}).num("msg_id"))
			equal(a, "error of 2127 for oneself", 2006, p.ask(p.owner, 2126, fields{"uid": p.owner.uid}))
			equal(a, "error of 2129 for a role nobody has", 2005, p.ask(p.owner, 2128, fields{"uid": p.member.uid, "role": 3}))
			equal(a, "error of 2129 for the owner", 2006, p.ask(p.owner, 2128, fields{"uid": p.owner.uid, "role": 0}))
			equal(a, "error of 2125 for the owner", 2006, p.ask(p.owner, 2124, nil))
			p.must(p.owner, 2128, fields{"uid": p.member.uid, "role": 2})
			info := p.must(p.owner, 2118, nil)
			equal(a, "owner", int64(p.member.uid), info.num("owner"))
			equal(a, "role of the old owner", 1, info.num("role"))
			p.must(p.member, 2126, fields{"uid": p.owner.uid})
			p.must(p.member, 2134, nil)
			for _, c := range []*conn{p.member, p.admin} {
				equal(a, "code for a text to a dissolved group", 2006, c.text(0, p.thread, "too late")[0].num("code"))
			}
		},
	},
	{
		Name: "group-links", Doc: "a link admits as often and as long as it says; wrong, used up, expired and revoked ones are refused alike",
		run: func(a *attempt) {
			p := a.party()
			join := func(c *conn, code string) object {
				c.send(2142, fields{"code": code})
				return c.until(2143)
			}
			reply := p.must(p.admin, 2136, fields{"ttl_s": 3600, "uses": 1})
			a.need("2137", reply, "thread_id:i", "code:s", "uses:i")
			once := reply.str("code")
			links := p.must(p.owner, 2138, nil).list("links")
			equal(a, "links", 1, len(links))
			a.need("2139 links", links[0], "code:s", "by:i", "uses:i")
			equal(a, "code of the link", once, links[0].str("code"))
			joined := join(p.outsider, once)
			equal(a, "error of 2143", 0, joined.num("error"))
			equal(a, "thread of 2143", p.thread, joined.num("thread_id"))
			equal(a, "name of 2143", "conform", joined.str("name"))
			equal(a, "event", "joined", event(p.pushed(p.outsider, joined.num("msg_id")-1)).str("event"))
			p.say(p.outsider, "I am in")
			equal(a, "error of 2143 for a link that is used up", 2006, join(p.former, once).num("error"))
			equal(a, "links left", 0, len(p.must(p.owner, 2138, nil).list("links")))
			revoked := p.link(60, 5)
			p.must(p.admin, 2140, fields{"code": revoked})
			equal(a, "error of 2143 for a revoked link", 2006, join(p.former, revoked).num("error"))
			equal(a, "error of 2143 for a code nobody made", 2006, join(p.former, wrongCode()).num("error"))
			equal(a, "error of 2143 for what is no code", 2005, join(p.former, "no code").num("error"))
			for what, bad := range map[string]fields{"59 s": {"ttl_s": 59}, "31 days": {"ttl_s": 31 * 86400}, "10,001 uses": {"uses": 10001}} {
				equal(a, "error of 2137 for "+what, 2005, p.ask(p.owner, 2136, bad))
			}
		},
	},
	{
		Name: "group-without-capability", Doc: "to a native client that does not ask for groups there are none: requests are refused, lists, history and pushes leave them out",
		run: func(a *attempt) {
			u := a.people(4)
			x, old := a.grouper(u[0], "conform"), a.native(u[1], "old")
			p := &party{a: a, owner: x}
			p.thread = x.found("unknown to some", old.uid)
			p.say(x, "a text")
			for id := 2116; id <= 2142; id += 2 {
				old.send(wire.MsgID(id), fields{"thread_id": p.thread, "name": "n", "unique_id": newUUID(), "uid": x.uid, "uids": []int32{x.uid}, "code": "c"})
				equal(a, fmt.Sprintf("error of %d", id+1), 2006, old.until(wire.MsgID(id+1)).num("error"))
			}
			p.unseen(old)
			old.send(2102, fields{"cursors": []fields{{"thread_id": p.thread, "seq": 0}}, "all": true})
			a.lacks("threads of 2103", old.until(2103).list("threads"), "thread_id", p.thread)
		},
	},
	{
		Name: "group-stock", Rules: []string{"R17"}, Doc: "a stock client whose user is in groups sees none of them, in its list, its history or pushes, and stays in good health",
		run: func(a *attempt) {
			u := a.people(4)
			x := a.grouper(u[0], "conform")
			stock, proc := a.stock(u[1]), a.process(u[2])
			stock.load()
			p := &party{a: a, owner: x}
			p.thread = x.found("unknown to some", stock.uid, a.uid(u[2]))
			p.say(x, "a text")
			p.must(x, 2130, fields{"name": "another name"})
			p.unseen(stock)
			phone := a.grouper(u[1], "phone") // at the same time as a client that does see them
			p.say(phone, "from my phone")
			p.must(x, 2126, fields{"uid": stock.uid})
			p.unseen(stock)
			a.healthy(proc)
			_, listed := proc.State().Pages[p.thread]
			a.want(!listed, "expected no page of the group, got one")
			a.healthy(a.process(u[2]))
		},
	},
}, append(groupRightChecks(), Check{
	Name: "group-guesses", Doc: "a user who tries many wrong codes is refused with 2003",
	run: func(a *attempt) {
		c, code := a.party().outsider, int64(0)
		for range 30 {
			c.send(2142, fields{"code": wrongCode()})
			if code = c.until(2143).num("error"); code != 2006 {
				break
			}
		}
		equal(a, "error of 2143 after many wrong codes", 2003, code)
	},
})...)
