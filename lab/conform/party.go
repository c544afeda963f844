package conform

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"parley/internal/wire"
)

// party is a group with a user of each relation, logged in as clients that know groups.
type party struct {
	a      *attempt
	thread int64
	got    map[*conn]map[int64]object // pushed rows, by number

	outsider, former, muted, member, admin, owner *conn
}

// all returns the users by relation.
func (p *party) all() []*conn {
	return []*conn{p.outsider, p.former, p.muted, p.member, p.admin, p.owner}
}

// grouper logs a user in as a client that knows groups; it skips the check if the cluster does not.
func (a *attempt) grouper(u *Account, device string) *conn {
	c := a.enter(a.login(u), fields{"client": "conform/1", "caps": []string{"batch", "resume", "gap", "groups"}, "device": device})
	granted, _ := c.welcome["caps"].([]any)
	if !slices.Contains(granted, any("groups")) {
		a.skipf("no groups here: 1006 does not grant them")
	}
	c.alive()
	return c
}

// people returns n users. The first is a friend of all others except the last.
func (a *attempt) people(n int) []*Account {
	var list []*Account
	for i := 0; ; i++ {
		u := a.grow(i)
		if u == nil {
			a.skipf("needs %d users, the last of whom is no friend of the first", n)
		}
		switch {
		case len(list) == 0:
		case len(list) < n-1:
			a.friendPair(list[0], u)
		case a.areFriends(list[0], u):
			continue
		default:
			a.use(list[0], u)
			return append(list, u)
		}
		list = append(list, u)
	}
}

// party makes a group of people.
func (a *attempt) party() *party {
	u := a.people(6)
	p := &party{
		a: a, owner: a.grouper(u[0], "conform"), admin: a.grouper(u[1], "conform"), member: a.grouper(u[2], "conform"),
		muted: a.grouper(u[3], "conform"), former: a.grouper(u[4], "conform"), outsider: a.grouper(u[5], "conform"),
	}
	p.thread = p.owner.found("conform", p.admin.uid, p.member.uid, p.muted.uid, p.former.uid)
	p.must(p.owner, 2128, fields{"uid": p.admin.uid, "role": 1})
	p.must(p.owner, 2132, fields{"uid": p.muted.uid, "until_ms": time.Now().Add(time.Hour).UnixMilli()})
	p.must(p.former, 2124, nil)
	return p
}

// found creates a group and returns its thread.
func (c *conn) found(name string, members ...int32) int64 {
	c.send(2116, fields{"name": name, "unique_id": newUUID(), "uids": members})
	reply := c.until(2117)
	equal(c.a, "error of 2117", 0, reply.num("error"))
	c.a.need("2117", reply, "error:i", "thread_id:i", "msg_id:i", "refused:a")
	equal(c.a, "users refused", 0, len(reply["refused"].([]any)))
	return reply.num("thread_id")
}

// about sends a request about the group and returns the answer.
func (p *party) about(c *conn, id int, more fields) object {
	body := fields{"thread_id": p.thread}
	for k, v := range more {
		body[k] = v
	}
	c.send(wire.MsgID(id), body)
	return c.until(wire.MsgID(id + 1))
}

// ask returns the code of the answer to a request about the group.
func (p *party) ask(c *conn, id int, more fields) int64 { return p.about(c, id, more).num("error") }

// must sends a request that must succeed, and returns the answer.
func (p *party) must(c *conn, id int, more fields) object {
	reply := p.about(c, id, more)
	equal(p.a, fmt.Sprintf("error of %d", id+1), 0, reply.num("error"))
	return reply
}

// link creates a link and returns its code.
func (p *party) link(ttl, uses int) string {
	return p.must(p.owner, 2136, fields{"ttl_s": ttl, "uses": uses}).str("code")
}

// say stores a text and returns its number.
func (p *party) say(c *conn, content string) int64 {
	m := c.text(0, p.thread, content)[0]
	equal(p.a, "status of a member's text", 2, m.num("status"))
	return m.num("message_id")
}

// event returns the contents of an event.
func event(m object) object {
	if m.num("kind") != wire.KindEvent {
		return object{}
	}
	o, err := decode([]byte(m.str("msg_content")))
	if err != nil {
		return object{}
	}
	return o
}

// pushed waits until the row of the group after a number is pushed to c, and returns it. Rows from two nodes may
// arrive out of order. After a gap notice it reads the row from the history.
func (p *party) pushed(c *conn, after int64) object {
	if p.got[c] == nil {
		if p.got == nil {
			p.got = map[*conn]map[int64]object{}
		}
		p.got[c] = map[int64]object{}
	}
	for end := time.Now().Add(patience); ; {
		if m, ok := p.got[c][after+1]; ok {
			return m
		}
		f, err := c.readFor(time.Until(end))
		if err != nil {
			p.a.failf("expected message %d of the group to be pushed, got %v", after+1, err)
		}
		o := c.object(f)
		if o.num("thread_id") != p.thread || f.id != wire.MsgGroupPush && f.id != wire.MsgGap {
			continue
		}
		rows := o.list("chat_datas")
		if f.id == wire.MsgGap {
			rows = c.history(p.thread, after)
		} else {
			p.a.need("2144", o, "thread_id:i", "member_ver:i", "chat_datas:a")
		}
		for _, m := range rows {
			p.a.need("2144 chat_datas", m, "sender:i", "msg_id:i", "thread_id:i", "unique_id:s", "msg_content:s", "chat_time:s", "status:i")
			p.got[c][m.num("msg_id")] = m
		}
	}
}

// hearsNothing fails if a row of the group after a number is pushed to c within d.
func (p *party) hearsNothing(c *conn, after int64, d time.Duration) {
	for n := range p.got[c] {
		p.a.want(n <= after, "expected nothing of the group after message %d, got message %d", after, n)
	}
	for end := time.Now().Add(d); ; {
		f, err := c.readFor(time.Until(end))
		if isTimeout(err) {
			return
		}
		p.a.ok("read", err)
		if f.id != wire.MsgGroupPush {
			continue
		}
		for _, m := range c.object(f).list("chat_datas") {
			p.a.want(m.num("thread_id") != p.thread || m.num("msg_id") <= after,
				"expected nothing of the group after message %d, got message %d", after, m.num("msg_id"))
		}
	}
}

// listed returns the group's element of the 1026, or nil.
func (p *party) listed(c *conn) object {
	for _, t := range c.load() {
		if t.num("thread_id") == p.thread {
			return t
		}
	}
	return nil
}

func (a *attempt) numbers(what string, list []object, first, last int64) {
	equal(a, what+": messages", last-first+1, int64(len(list)))
	for i, m := range list {
		equal(a, what+": number", first+int64(i), m.num("msg_id"))
	}
}

// wrongCode returns a well-formed but unknown code of a link.
func wrongCode() string { return strings.Trim(newUUID(), "{}") }

// unseen fails if c's client is shown anything of the group.
func (p *party) unseen(c *conn) {
	p.a.want(p.listed(c) == nil, "expected the group not in 1026, got it")
	equal(p.a, "messages of the group in 1030", 0, len(c.history(p.thread, 0)))
	equal(p.a, "status of a text to the group", 1, c.text(0, p.thread, "may I?")[0].num("status"))
	c.silent(400 * time.Millisecond)
}
