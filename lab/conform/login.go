package conform

import (
	"encoding/json"
	"time"

	"parley/internal/wire"
)

var loginChecks = []Check{
	{
		Name: "login-welcome", Rules: []string{"R1", "R11", "R12", "R16", "R21", "D1", "D45"},
		Doc: "1006 is the first frame, has what the client reads, all friends, and neither password nor e-mail",
		run: func(a *attempt) {
			x, y, _ := a.friends()
			c := a.stock(x)
			a.need("1006", c.welcome, "error:i", "uid:i", "name:s", "nick:s", "icon:s", "sex:i", "desc:s", "token:s", "apply_list:a", "friend_list:a")
			equal(a, "uid", int64(a.uid(x)), c.welcome.num("uid"))
			a.without("1006", c.welcome, "pwd", "passwd", "email")
			found := false
			for _, f := range c.welcome.list("friend_list") {
				a.need("friend_list", f, "uid:i", "name:s", "nick:s", "icon:s", "sex:i", "desc:s", "back:s")
				a.without("friend_list", f, "pwd", "passwd", "email")
				found = found || int32(f.num("uid")) == a.uid(y)
			}
			a.want(found, "expected friend %d in friend_list, got it without", a.uid(y))
			for _, key := range []string{"caps", "window", "sid", "resume", "heartbeat_s"} {
				a.without("1006 for a client that did not announce itself", c.welcome, key)
			}
		},
	},
	{
		Name: "login-token", Rules: []string{"R7", "D9"},
		Doc: "a wrong, foreign or used token and an unknown user are refused with 1010, no token and no uid with 1011, and the connection closes at once",
		run: func(a *attempt) {
			x, y, _ := a.friends()
			t, other := a.login(x), a.login(y)
			for _, c := range []struct {
				what string
				body fields
				want int64
			}{
				{"wrong token", fields{"uid": t.uid, "token": "nonsense"}, 1010},
				{"token of somebody else", fields{"uid": t.uid, "token": other.token}, 1010},
				{"no token", fields{"uid": t.uid}, 1011},
				{"no such user", fields{"uid": 2147483600, "token": "x"}, 1010},
				{"uid 0", fields{"uid": 0, "token": t.token}, 1011},
			} {
				conn := a.dial(t.addr)
				conn.send(1005, c.body)
				equal(a, "error with "+c.what, c.want, conn.expect(1006).num("error"))
				conn.closed(atOnce)
			}
			a.enter(t, nil).close()
			again := a.dial(t.addr)
			again.send(1005, fields{"uid": t.uid, "token": t.token})
			equal(a, "error with a used token", 1010, again.expect(1006).num("error"))
			again.closed(atOnce)
		},
	},
	{
		Name: "login-first", Rules: []string{"D3", "D44"}, Doc: "before a login anything but 1005 closes the connection without an answer",
		run: func(a *attempt) {
			t := a.login(a.grow(0))
			for _, id := range []wire.MsgID{1007, 1009, 1013, 1017, 1023, 1025, 1027, 1029, 9, 2102} {
				c := a.dial(t.addr)
				c.send(id, fields{"uid": "1001", "fromuid": 1001, "touid": 1002, "thread_id": 1})
				frames := c.closed(atOnce)
				a.want(len(frames) == 0, "%d before a login: expected no answer, got %d frames", uint16(id), len(frames))
			}
		},
	},
	{
		Name: "login-bad-body", Rules: []string{"D13"}, Doc: "a 1005 with a wrong body is refused or closed, without effect on others",
		run: func(a *attempt) {
			witness := a.stock(a.grow(0))
			for _, body := range []string{"", "{", "[]", "null", `"x"`, `{"uid":"1","token":1}`, `{"uid":99999999999,"token":"x"}`, `{"uid":1.5,"token":"x"}`, "\xff"} {
				c := a.dial(witness.addr)
				c.sendBody(1005, body)
				for _, f := range c.closed(atOnce) {
					a.want(f.id == 1006 && c.object(f).num("error") != 0, "body %q: expected a refusal, got a %d", body, uint16(f.id))
				}
			}
			witness.alive()
		},
	},
	{
		Name: "login-in-pieces", Doc: "a 1005 that arrives byte by byte, and requests that arrive together, are understood",
		run: func(a *attempt) {
			t := a.login(a.grow(0))
			c := a.dial(t.addr)
			body, err := json.Marshal(fields{"uid": t.uid, "token": t.token})
			a.ok("encode", err)
			frame, err := wire.AppendFrame(nil, 1005, body)
			a.ok("encode", err)
			for i := range frame {
				c.sendBytes(frame[i : i+1])
			}
			equal(a, "error of 1006", 0, c.expect(1006).num("error"))
			var many []byte
			for range 3 {
				many, err = wire.AppendFrame(many, 1007, []byte(`{"uid":"1"}`))
				a.ok("encode", err)
			}
			c.sendBytes(many[:7])
			c.sendBytes(many[7:])
			for range 3 {
				c.expect(1008)
			}
		},
	},
	{
		Name: "login-frame-limit", Rules: []string{"D15", "D49"},
		Doc: "lengths above 2,048 before login close, 0x8000 and 0xFFFF included, and leave no trace",
		run: func(a *attempt) {
			u := a.grow(0)
			witness := a.stock(u)
			for _, n := range []uint16{2049, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF} {
				c := a.dial(witness.addr)
				c.sendBytes([]byte{0x03, 0xED, byte(n >> 8), byte(n)})
				c.closed(atOnce)
			}
			witness.alive()
			for _, n := range []uint16{0xFFFF} {
				c := a.enter(a.login(u), nil)
				c.sendBytes([]byte{0x03, 0xEF, byte(n >> 8), byte(n)})
				c.sendBytes(make([]byte, 70000))
				c.closed(15 * time.Second)
			}
			a.stock(u).alive()
		},
	},
	{
		Name: "login-twice-on-one-connection", Rules: []string{"D43"}, Doc: "a second 1005 closes the connection and logs no user in",
		run: func(a *attempt) {
			x, y, _ := a.friends()
			c := a.stock(x)
			t := a.login(y)
			c.send(1005, fields{"uid": t.uid, "token": t.token})
			for _, f := range c.closed(10 * time.Second) {
				a.want(f.id != 1006 || c.object(f).num("error") != 0, "expected no second welcome, got one")
			}
			a.enter(t, nil).alive() // the refusal must not have used up the token
		},
	},
	{
		Name: "login-timeout", Rules: []string{"D3", "D46"}, slow: true,
		Doc: "who does not log in is closed after about 10 s, and not earlier than 5",
		run: func(a *attempt) {
			t := a.login(a.grow(0))
			c := a.dial(t.addr)
			began := time.Now()
			c.closed(30 * time.Second)
			a.want(time.Since(began) > 5*time.Second, "expected time to log in, got %v", time.Since(began))
		},
	},
	{
		Name: "login-heartbeats", Rules: []string{"R10", "D41"}, slow: true,
		Doc: "heartbeats are answered and keep a session alive; 25 s of silence do too, two minutes do not",
		run: func(a *attempt) {
			u := a.account()
			c := a.stock(u)
			c.send(1025, fields{"uid": c.uid, "thread_id": 0})
			c.expect(1026)
			time.Sleep(50 * time.Millisecond)
			c.send(1023, fields{"fromuid": 1})
			equal(a, "error of 1024", 0, c.expect(1024).num("error"))
			c.silent(24 * time.Second)
			c.alive()
		},
	},
}

var kickChecks = []Check{
	{
		Name: "kick-same-user", Rules: []string{"R9", "D39", "D42", "D48"},
		Doc: "a second login gets 1006, the first session 1021 and then a close; heartbeats in between are ignored",
		run: func(a *attempt) {
			x, y, thread := a.friends()
			peer := a.stock(y)
			for range 4 {
				old := a.stock(x)
				fresh := a.stock(x)
				kicked := old.expect(1021)
				equal(a, "error of 1021", 0, kicked.num("error"))
				equal(a, "uid of 1021", int64(a.uid(x)), kicked.num("uid"))
				old.send(1023, fields{"fromuid": old.uid})
				for _, f := range old.closed(15 * time.Second) {
					a.failf("expected nothing after 1021, got a %d", uint16(f.id))
				}
				fresh.load()
				peer.text(fresh.uid, thread, "for the new session")
				fresh.until(1019)
				fresh.close()
			}
		},
	},
	{
		Name: "kick-across-nodes", Rules: []string{"D26", "D39", "D40"}, Doc: "the same when the second login is at another node",
		run: func(a *attempt) {
			x, y, thread := a.friends()
			peer := a.stock(y)
			peer.load()
			first := a.stock(x)
			for range 12 {
				t := a.login(x)
				if t.addr == first.addr {
					a.enter(t, nil).close()
					first = a.stock(x)
					continue
				}
				second := a.enter(t, nil)
				first.until(1021)
				first.closed(15 * time.Second)
				second.load()
				peer.text(second.uid, thread, "for the session at the other node")
				second.until(1019)
				return
			}
			a.skipf("all logins were placed on one node")
		},
	},
	{
		Name: "kick-storm", Rules: []string{"D39", "D48"}, Doc: "of many logins at once one session is left, and it is reached",
		run: func(a *attempt) {
			x, y, thread := a.friends()
			peer := a.stock(y)
			peer.load()
			var conns []*conn
			for range 8 {
				t := a.login(x)
				c := a.dial(t.addr)
				c.uid = t.uid
				c.send(1005, fields{"uid": t.uid, "token": t.token})
				conns = append(conns, c)
			}
			left := conns
			for end := time.Now().Add(patience); len(left) > 1 && time.Now().Before(end); {
				var still []*conn
				for _, c := range left {
					f, err := c.readFor(50 * time.Millisecond)
					for err == nil && f.id != 1021 {
						f, err = c.readFor(50 * time.Millisecond)
					}
					if isTimeout(err) {
						still = append(still, c)
					}
				}
				left = still
			}
			equal(a, "sessions left of 8 logins", 1, len(left))
			left[0].load()
			peer.text(left[0].uid, thread, "for whoever is left")
			left[0].until(1019)
		},
	},
}

var searchChecks = []Check{
	{
		Name: "search-finds", Rules: []string{"R15", "D1"}, Doc: "by uid, as text or number, and by exact name; without password and e-mail",
		run: func(a *attempt) {
			x, y, _ := a.friends()
			c := a.stock(x)
			name := ""
			for _, f := range c.welcome.list("friend_list") {
				if int32(f.num("uid")) == a.uid(y) {
					name = f.str("name")
				}
			}
			for _, query := range []any{jsonText(a.uid(y)), name, a.uid(y)} {
				c.send(1007, fields{"uid": query})
				got := c.expect(1008)
				a.need("1008", got, "error:i", "uid:i", "name:s", "nick:s", "desc:s", "sex:i", "icon:s")
				equal(a, "uid of 1008", int64(a.uid(y)), got.num("uid"))
				equal(a, "name of 1008", name, got.str("name"))
				a.without("1008", got, "pwd", "passwd", "email")
				if a.t.Code != nil {
					equal(a, "icon, as registered", ":/res/head_2.jpg", got.str("icon"))
				}
			}
		},
	},
	{
		Name: "search-any-input", Rules: []string{"R6", "D14", "D35"},
		Doc: "whatever is searched for, there is exactly one 1008 for each 1007, in order",
		run: func(a *attempt) {
			u := a.grow(0)
			c := a.stock(u)
			long := make([]byte, 8000)
			for i := range long {
				long[i] = 'a'
			}
			for _, q := range []any{
				"", "0", "-1", "13800138000", "99999999999999999999", "2147483647", "2147483648", "000", "1 or 1=1", "%", "nobody at all",
				"名字", "\u0000", string(long), 0, -5, 1.5, 99999999999, nil, true,
				fields{},
				[]any{},
			} {
				c.send(1007, fields{"uid": q})
				equal(a, "error of 1008", 1011, c.expect(1008).num("error"))
			}
			for _, body := range []string{"", "[]", "{", "{}"} {
				c.sendBody(1007, body)
				a.want(c.expect(1008).num("error") != 0, "expected a refusal, got success")
			}
			for range 3 {
				c.send(1007, fields{"uid": jsonText(a.uid(u))})
				c.send(1007, fields{"uid": "nobody at all"})
			}
			for range 3 {
				equal(a, "error of 1008", 0, c.expect(1008).num("error"))
				equal(a, "error of 1008", 1011, c.expect(1008).num("error"))
			}
			c.silent(200 * time.Millisecond)
		},
	},
}
