package conform

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// routes are the routes used by the stock client.
var routes = []string{"/get_varifycode", "/user_register", "/reset_pwd", "/user_login"}

var httpChecks = []Check{
	{
		Name: "http-login", Rules: []string{"R19", "R20"},
		Doc: "a login by e-mail and transformed password gives uid, token, host, and the port as a string",
		run: func(a *attempt) {
			u := a.grow(0)
			status, reply, err := a.post(a.ctx, "/user_login", fields{"email": u.Email, "passwd": transform(u.Password)})
			a.ok("POST /user_login", err)
			equal(a, "status", http.StatusOK, status)
			a.need("reply", reply, "error:i", "email:s", "uid:i", "token:s", "host:s", "port:s")
			port, err := strconv.Atoi(reply.str("port"))
			a.want(err == nil && port > 0 && port < 65536, "expected a decimal port, got %q", reply.str("port"))
			nc, err := net.DialTimeout("tcp", net.JoinHostPort(reply.str("host"), reply.str("port")), patience)
			a.ok("connect to host and port of the reply", err)
			nc.Close()
		},
	},
	{
		Name: "http-wrong-password", Doc: "a wrong password and an unknown address are 1009, with status 200",
		run: func(a *attempt) {
			for email, secret := range map[string]string{a.grow(0).Email: "wrong!", "nobody" + a.env.run + "@example.com": "Secret"} {
				status, reply, err := a.post(a.ctx, "/user_login", fields{"email": email, "passwd": transform(secret)})
				a.ok("POST /user_login", err)
				equal(a, "status", http.StatusOK, status)
				equal(a, "error", 1009, reply.num("error"))
				a.without("refusal", reply, "token", "host")
			}
		},
	},
	{
		Name: "http-bad-json", Rules: []string{"D28"},
		Doc: "what is not the JSON expected is status 200 with error 1001 on every route: anything else disables the login page for good",
		run: func(a *attempt) {
			for _, route := range routes {
				for _, body := range []string{"", "{", "null", "[]", `"x"`, "{\"email\":", "\xff\xfe", `{"email":7}`, "%zz%"} {
					status, reply, err := a.post(a.ctx, route, body)
					a.ok("POST "+route, err)
					a.want(status == 200 && reply.num("error") == 1001, "%s with body %q: expected 200 and 1001, got %d and %v", route, body, status, reply)
				}
			}
		},
	},
	{
		Name: "http-unknown-route", Doc: "another path is 404 in plain text",
		run: func(a *attempt) {
			for _, route := range []string{"/nothing", "/test_procedure", "/user_login/x", "/user_login?x=1&y=%zz"} {
				req, err := http.NewRequestWithContext(a.ctx, http.MethodGet, a.t.Gate+strings.ReplaceAll(route, "%zz", "%25"), nil)
				a.ok("request", err)
				rsp, err := a.env.http.Do(req)
				a.ok("GET "+route, err)
				body, _ := io.ReadAll(io.LimitReader(rsp.Body, 1<<16)) // what was read is compared
				rsp.Body.Close()
				a.want(rsp.StatusCode == 404 && strings.Contains(string(body), "not found"), "%s: expected 404, url not found, got %d, %q", route, rsp.StatusCode, body)
			}
		},
	},
	{
		Name: "http-register", Rules: []string{"D11", "D23"},
		Doc: "register checks passwords, then the code; tells neither back; the code works once; a taken name or address is 1005",
		run: func(a *attempt) {
			if a.t.Code == nil {
				a.skipf("needs to register users: no codes can be read")
			}
			u := a.newAccount()
			post := func(body map[string]any) object {
				status, reply, err := a.post(a.ctx, "/user_register", body)
				a.ok("POST /user_register", err)
				equal(a, "status", 200, status)
				return reply
			}
			body := registration(u, "000000")
			body["confirm"] = "other"
			equal(a, "error when the passwords differ", 1006, post(body).num("error"))
			equal(a, "error without a code", 1003, post(registration(u, "000000")).num("error"))
			code, err := a.mailCode(a.ctx, u.Email)
			a.ok("code", err)
			a.want(len(code) >= 6 && strings.Trim(code, "0123456789") == "", "expected a code of 6 digits or more, got %d characters", len(code))
			equal(a, "error with a wrong code", 1004, post(registration(u, "x"+code[1:])).num("error"))
			reply := post(registration(u, code))
			equal(a, "error", 0, reply.num("error"))
			a.need("reply", reply, "error:i", "uid:i", "email:s", "user:s")
			a.without("reply", reply, "passwd", "confirm", "varifycode")
			equal(a, "error when the code is used again", 1003, post(registration(u, code)).num("error"))

			same := a.newAccount()
			same.Name = strings.ToUpper(u.Name)
			code, err = a.mailCode(a.ctx, same.Email)
			a.ok("code", err)
			equal(a, "error for a taken name", 1005, post(registration(same, code)).num("error"))
			_, err = a.ticket(a.ctx, u)
			a.ok("log in", err)
		},
	},
	{
		Name: "http-code-guesses", Rules: []string{"D11"}, Doc: "a code dies of five wrong guesses",
		run: func(a *attempt) {
			if a.t.Code == nil {
				a.skipf("needs to register users: no codes can be read")
			}
			u := a.newAccount()
			code, err := a.mailCode(a.ctx, u.Email)
			a.ok("code", err)
			for range 5 {
				_, reply, err := a.post(a.ctx, "/user_register", registration(u, "y"+code[1:]))
				a.ok("POST /user_register", err)
				a.want(reply.num("error") != 0, "expected a refusal, got success")
			}
			_, reply, err := a.post(a.ctx, "/user_register", registration(u, code))
			a.ok("POST /user_register", err)
			a.want(reply.num("error") == 1003 || reply.num("error") == 1004, "expected 1003 for the right code after five wrong ones, got %d", reply.num("error"))
		},
	},
	{
		Name: "http-reset", Rules: []string{"D21", "D22", "D29", "R19"},
		Doc: "reset wants name and address to match, 1007 else; it ends the session, the tokens and the old password",
		run: func(a *attempt) {
			u := a.account()
			body := func(name, code string) fields {
				return fields{"user": name, "email": u.Email, "passwd": transform("Changed1"), "varifycode": code}
			}
			for range 3 {
				code, err := a.mailCode(a.ctx, u.Email)
				a.ok("code", err)
				ctx, cancel := context.WithTimeout(a.ctx, atOnce)
				_, reply, err := a.post(ctx, "/reset_pwd", body("nobody"+a.env.run, code))
				cancel()
				a.ok("POST /reset_pwd for an unknown name", err)
				equal(a, "error for an unknown name", 1007, reply.num("error"))
			}
			session, unused := a.stock(u), a.login(u)
			code, err := a.mailCode(a.ctx, u.Email)
			a.ok("code", err)
			_, reply, err := a.post(a.ctx, "/reset_pwd", body(u.Name, code))
			a.ok("POST /reset_pwd", err)
			equal(a, "error", 0, reply.num("error"))
			a.without("reply", reply, "passwd", "varifycode")
			session.closed(patience)
			_, reply, err = a.post(a.ctx, "/user_login", fields{"email": u.Email, "passwd": transform(u.Password)})
			a.ok("POST /user_login", err)
			equal(a, "error with the old password", 1009, reply.num("error"))
			c := a.dial(unused.addr)
			c.send(1005, fields{"uid": unused.uid, "token": unused.token})
			equal(a, "error with a token from before", 1010, c.expect(1006).num("error"))
			u.Password = "Changed1"
			a.stock(u).alive()
		},
	},
}
