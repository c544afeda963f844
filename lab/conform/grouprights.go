package conform

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The relations of a user to a group, in order of increasing rights.
var groupStandings = []string{"outsider", "former", "muted", "member", "admin", "owner"}

// groupRight is an action on a group, with a request that performs it.
type groupRight struct {
	verb string
	may  string // relations that permit it
	// try performs the action as c, if needed on the plain member other, and returns the code of the answer.
	try func(p *party, c *conn, other int32) int64
}

// groupRights says which relations permit which actions. The actions permitted to one relation do not change the
// relations after it.
var groupRights = []groupRight{
	{"read", "former muted member admin owner", func(p *party, c *conn, _ int32) int64 {
		if len(c.history(p.thread, 0)) == 0 {
			return 2006 // an empty page
		}
		return 0
	}},
	{"write", "member admin owner", func(p *party, c *conn, _ int32) int64 {
		return c.text(0, p.thread, "may I? "+newUUID())[0].num("code")
	}},
	{"info", "former muted member admin owner", func(p *party, c *conn, _ int32) int64 { return p.ask(c, 2118, nil) }},
	{"members", "muted member admin owner", func(p *party, c *conn, _ int32) int64 { return p.ask(c, 2120, nil) }},
	{"invite", "admin owner", func(p *party, c *conn, _ int32) int64 {
		return p.ask(c, 2122, fields{"uids": []int32{p.outsider.uid}}) // only friends of the outsider may add it
	}},
	{"link", "admin owner", func(p *party, c *conn, _ int32) int64 { return p.ask(c, 2136, fields{"ttl_s": 600, "uses": 2}) }},
	{"links", "admin owner", func(p *party, c *conn, _ int32) int64 { return p.ask(c, 2138, nil) }},
	{"revoke link", "admin owner", func(p *party, c *conn, _ int32) int64 { return p.ask(c, 2140, fields{"code": "no-such-code"}) }},
	{"rename", "admin owner", func(p *party, c *conn, _ int32) int64 {
		return p.ask(c, 2130, fields{"name": "called " + newUUID()[:8]})
	}},
	{"mute member", "admin owner", func(p *party, c *conn, other int32) int64 {
		return p.ask(c, 2132, fields{"uid": other, "until_ms": time.Now().Add(time.Hour).UnixMilli()})
	}},
	{"mute group", "admin owner", func(p *party, c *conn, _ int32) int64 { return p.ask(c, 2130, fields{"mute_all": true}) }},
	{"history", "admin owner", func(p *party, c *conn, _ int32) int64 { return p.ask(c, 2130, fields{"history_for_new": true}) }},
	{"remove", "admin owner", func(p *party, c *conn, other int32) int64 { return p.ask(c, 2126, fields{"uid": other}) }},
	{"set role", "owner", func(p *party, c *conn, other int32) int64 { return p.ask(c, 2128, fields{"uid": other, "role": 1}) }},
	{"transfer", "owner", func(p *party, c *conn, other int32) int64 { return p.ask(c, 2128, fields{"uid": other, "role": 2}) }},
	{"dissolve", "owner", func(p *party, c *conn, _ int32) int64 { return p.ask(c, 2134, nil) }},
	{"leave", "muted member admin", func(p *party, c *conn, _ int32) int64 { return p.ask(c, 2124, nil) }},
	{"join", "outsider former muted member admin owner", func(p *party, c *conn, _ int32) int64 {
		c.send(2142, fields{"code": p.link(600, 10)})
		return c.until(2143).num("error")
	}},
}

// groupRightChecks returns a check for each right.
func groupRightChecks() (list []Check) {
	for _, r := range groupRights {
		list = append(list, Check{
			Name: "group-right-" + strings.ReplaceAll(r.verb, " ", "-"),
			Doc:  fmt.Sprintf("%s in a group: %s may; anybody else is refused with 2006", r.verb, strings.ReplaceAll(r.may, " ", ", ")),
			run: func(a *attempt) {
				p := a.party()
				may := strings.Fields(r.may)
				for i, standing := range groupStandings {
					c := p.all()[i]
					other := p.member.uid
					if standing == "member" || standing == "admin" {
						other = p.muted.uid
					}
					want := int64(2006)
					if slices.Contains(may, standing) {
						want = 0
					}
					equal(a, fmt.Sprintf("code for %s by %s", r.verb, standing), want, r.try(p, c, other))
				}
			},
		})
	}
	return list
}
