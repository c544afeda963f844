//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"parley/client"
	"parley/internal/wire"
)

// reuseTokens implements bar S5.
func reuseTokens(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 2})
	if err != nil {
		return err
	}
	n := w.N(1_000, 100)
	first, err := l.users(ctx, n)
	if err != nil {
		return err
	}
	uids := span(first, n)
	tickets, err := l.tickets(ctx, uids, 0)
	if err != nil {
		return err
	}
	var twice, none atomic.Int64
	err = each(n, 8, func(i int) error {
		var in atomic.Int64
		once(2, func(k int) {
			t := tickets[i]
			t.Addr = l.clientAddr(k)
			c, err := client.Dial(ctx, t, client.Options{})
			if err == nil {
				in.Add(1)
				c.Close()
			}
		})
		switch in.Load() {
		case 0:
			none.Add(1)
		case 2:
			twice.Add(1)
		}
		return nil
	})
	if err != nil {
		return err
	}
	revoked := int64(0)
	some, err := l.tickets(ctx, uids[:20], 0)
	if err != nil {
		return err
	}
	for i, t := range some {
		if err := l.presence.Tokens.Revoke(ctx, uids[i]); err != nil {
			return err
		}
		if c, err := client.Dial(ctx, t, client.Options{}); err == nil {
			c.Close()
			revoked++
		}
	}
	// An attacker with a copy of Redis has keys and values, but no token.
	live, err := l.tickets(ctx, uids[20:40], 0)
	if err != nil {
		return err
	}
	words, err := l.dump(ctx)
	if err != nil {
		return err
	}
	if w.Short {
		words = words[:min(len(words), 400)]
	}
	var stolen atomic.Int64
	err = each(len(words), 8, func(i int) error {
		for _, resume := range []bool{false, true} {
			t := client.Ticket{Addr: l.clientAddr(0), UID: live[i%len(live)].UID, Token: words[i]}
			if resume {
				t.Token, t.Resume = "", words[i]
			}
			if c, err := client.Dial(ctx, t, client.Options{}); err == nil {
				c.Close()
				stolen.Add(1)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.Note("tokens", n)
	r.Zero("tokens good twice", twice.Load())
	r.Zero("tokens good for nothing", none.Load())
	r.Zero("revoked tokens that log in", revoked)
	r.Note("words of the dump tried", len(words))
	r.Zero("logins by the dump", stolen.Load())
	return nil
}

// dump returns all words in Redis: parts of keys, values and fields that are long enough to be a token.
func (l *Lab) dump(ctx context.Context) ([]string, error) {
	seen := map[string]bool{}
	add := func(s string) {
		for _, word := range strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune("|:_{} \",", r) }) {
			if len(word) >= 16 && len(word) <= 200 {
				seen[word] = true
			}
		}
	}
	keys, err := l.rdb.Keys(ctx, "u*").Result()
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		add(k)
		if v, err := l.rdb.Get(ctx, k).Result(); err == nil {
			add(v)
		}
		if m, err := l.rdb.HGetAll(ctx, k).Result(); err == nil {
			for f, v := range m {
				add(f)
				add(v)
			}
		}
	}
	words := make([]string, 0, len(seen))
	for word := range seen {
		words = append(words, word)
	}
	slices.Sort(words)
	return words, nil
}

// otherPeoplesThreads implements bar S6.
func otherPeoplesThreads(ctx context.Context, w *World, r *Report) error {
	return strangersWrite(ctx, w, r, Layout{Chat: 2})
}

// strangersWrite tries every request of the protocol on a thread of other users. Bar V7 also runs it, with nodes that
// ignore membership.
func strangersWrite(ctx context.Context, w *World, r *Report, layout Layout) error {
	l, err := w.Start(ctx, layout)
	if err != nil {
		return err
	}
	first, err := l.users(ctx, 4) // ann, bob, a friend of ann's, a stranger
	if err != nil {
		return err
	}
	ann, bob, friend, stranger := first, first+1, first+2, first+3
	threads, err := l.store.Seed.Friends(ctx, [][2]int32{{ann, bob}, {ann, friend}})
	if err != nil {
		return err
	}
	const canary = "a line between ann and bob"
	a, err := l.dial(ctx, ann, 0, client.Options{})
	if err != nil {
		return err
	}
	defer a.Close()
	if _, err := a.SendTexts(ctx, client.InThread(threads[0]), client.NewDraft(canary)); err != nil {
		return err
	}
	before, err := l.stored(ctx, threads[0])
	if err != nil {
		return err
	}
	shown, acks := int64(0), int64(0)
	requests := 0
	for _, uid := range []int32{friend, stranger} {
		for node := range l.Chat {
			for _, extra := range []map[string]any{native(), nil} {
				t, err := l.ticket(ctx, uid, node)
				if err != nil {
					return err
				}
				raw, err := loginRaw(ctx, t, extra, rawOptions{})
				if err != nil {
					return err
				}
				for id := wire.MsgID(1000); id < 2200; id++ {
					if _, known := id.Reply(); !known || id == wire.MsgLogin {
						continue
					}
					requests++
					raw.send(id, fmt.Sprintf(
						`{"thread_id":%d,"message_id":0,"fromuid":%d,"touid":%d,"uid":%d,"other_id":%d,"cursors":[{"thread_id":%d,"seq":0}],"applyname":"x","back":"x",`+
							`"text_array":[{"content":"from outside","unique_id":"outside-%d-%d-%d"}]}`,
						threads[0], ann, bob, ann, bob, threads[0], uid, node, id))
				}
				raw.send(wire.MsgHeartbeat, "{}")
				for {
					id, rsp, err := raw.next(3 * time.Second)
					if err != nil {
						break // a stock client may be disconnected because of its request
					}
					if strings.Contains(rsp.raw, canary) {
						w.Logf("user %d: %v shows it: %s", uid, id, rsp.raw)
						shown++
					}
					if id == wire.MsgTextRsp {
						acks += int64(rsp.stored())
					}
				}
				_ = raw.Close() // the next one logs in
			}
		}
	}
	after, err := l.stored(ctx, threads[0])
	if err != nil {
		return err
	}
	r.Note("requests", requests)
	r.Zero("texts stored", int64(after-before))
	r.Zero("texts acknowledged", acks)
	r.Zero("contents shown", shown)
	return nil
}

// injections returns payloads of the kind that scanners send.
func injections(n int) []string {
	base := []string{
		`' OR '1'='1`, `'; DROP TABLE user; --`, `" OR ""="`, `1; SELECT SLEEP(5)`, `' UNION SELECT pwd FROM user --`, `\'; --`, `%' OR 1=1 #`,
		"`; DELETE FROM chat_message; --", `') OR ('a'='a`, `0x27 OR 1=1`, `' AND EXTRACTVALUE(1,CONCAT(0x7e,VERSION())) --`, `\\' OR 1=1 --`,
		`?`, `:name`, `$1`, `%s%s%n`, `{{7*7}}`, `';WAITFOR DELAY '0:0:5'--`, `/**/OR/**/1=1`, "\u02bc OR 1=1",
	}
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s %d", base[i%len(base)], i)
	}
	return out
}

// injectSQL implements bar S7.
func injectSQL(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 1, Status: 1, Gate: 1})
	if err != nil {
		return err
	}
	first, threads, err := l.pairs(ctx, 1)
	if err != nil {
		return err
	}
	more, err := l.users(ctx, 1)
	if err != nil {
		return err
	}
	count := func(table string) (n int64, err error) {
		err = l.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+table).Scan(&n)
		return n, err
	}
	users, err := count("user")
	if err != nil {
		return err
	}
	a, err := l.dial(ctx, first, 0, client.Options{})
	if err != nil {
		return err
	}
	defer a.Close()
	payloads := injections(w.N(200, 40))
	wrong := int64(0)
	for i, p := range payloads {
		pause(ctx, 45*time.Millisecond) // stay within the limit of a user: three requests each
		sent, err := a.SendTexts(ctx, client.InThread(threads[0]), client.Draft{UniqueID: fmt.Sprintf("%.40s%d", strings.ToValidUTF8(p, ""), i), Text: p})
		if err == nil {
			err = sent[0].Err
		}
		if err != nil {
			w.Logf("text %q: %v", p, err)
			wrong++
		}
		if _, err := a.Search(ctx, p); client.CodeOf(err) != client.CodeUIDInvalid {
			w.Logf("search %q: %v", p, err)
			wrong++
		}
		if i%10 == 0 {
			if err := a.Apply(ctx, more, p, p); err != nil {
				w.Logf("apply %q: %v", p, err)
				wrong++
			}
			body, err := l.post(ctx, "/user_login", fmt.Sprintf(`{"email":%s,"passwd":%s}`, quote(p), quote(p)))
			if err != nil || strings.Contains(body, `"token":"`) && !strings.Contains(body, `"token":""`) {
				w.Logf("login %q: %s, %v", p, body, err)
				wrong++
			}
		}
	}
	rows, err := l.db.QueryContext(ctx, "SELECT content FROM chat_message WHERE thread_id = ? ORDER BY seq", threads[0])
	if err != nil {
		return err
	}
	defer rows.Close()
	var stored []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return err
		}
		stored = append(stored, s)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	after, err := count("user")
	if err != nil {
		return err
	}
	log, err := os.ReadFile(l.Chat[0].LogPath())
	if err != nil {
		return err
	}
	r.Note("payloads", len(payloads))
	r.Zero("answers that differ from what any other text gets", wrong)
	r.Is("stored byte for byte", slices.Equal(stored, payloads), fmt.Sprintf("%d rows", len(stored)))
	Equal(r, "users", after, users)
	r.Zero("SQL errors in the log", int64(strings.Count(string(log), "Error 1064")))
	return nil
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string
	}
	return string(b)
}

// canaries implements bar S8.
func canaries(ctx context.Context, w *World, r *Report) error {
	o := standard
	o.LogLevel = "debug"
	l, err := w.Start(ctx, o)
	if err != nil {
		return err
	}
	const address, pass, body = "canary.ann@chaos.example", "canary-pass-1", "canary-text-of-ann"
	secrets := map[string]string{
		"password": pass, "password as sent": transform(pass), "e-mail": address, "text": body,
		"SQL password": l.MariaDB.Password, "cluster secret": l.Secret(),
	}
	if err := l.gate.RequestCode(ctx, address); err != nil {
		return err
	}
	code := l.mailedCode(address)
	secrets["code"] = code
	if _, err := l.gate.Register(ctx, client.Registration{Name: "canaryann", Email: address, Password: pass, Code: code}); err != nil {
		return err
	}
	if _, err := l.gate.Login(ctx, address, pass+"x"); err == nil {
		return errors.New("a wrong password was accepted")
	}
	t, err := l.gate.Login(ctx, address, pass)
	if err != nil {
		return err
	}
	secrets["token"] = t.Token
	a, err := client.Dial(ctx, t, client.Options{})
	if err != nil {
		return err
	}
	defer a.Close()
	secrets["resume ticket"] = a.Ticket().Resume
	uid, err := l.users(ctx, 1)
	if err != nil {
		return err
	}
	b, err := l.dial(ctx, uid, 1, client.Options{})
	if err != nil {
		return err
	}
	defer b.Close()
	if err := a.Apply(ctx, uid, "canary-greeting", "canary-alias"); err != nil {
		return err
	}
	secrets["greeting"], secrets["alias"] = "canary-greeting", "canary-alias"
	if _, err := b.Approve(ctx, a.Profile().UID, ""); err != nil {
		return err
	}
	if _, err := a.SendText(ctx, client.User(uid), body); err != nil {
		return err
	}
	// Failures are logged: stop the stores in the middle.
	if err := l.MariaDB.Kill(); err != nil {
		return err
	}
	_, _ = a.SendText(ctx, client.User(uid), body) // refused
	_, _ = a.Search(ctx, body)                     // the same
	_, _ = l.gate.Login(ctx, address, pass)        // the same
	_, _ = l.post(ctx, "/user_login", `{"email":"`+address+`","passwd":["`+pass+`"]`)
	if err := l.MariaDB.Start(ctx); err != nil {
		return err
	}
	hits := int64(0)
	look := func(where, page string) {
		for what, secret := range secrets {
			if secret != "" && strings.Contains(page, secret) {
				w.Logf("%s has the %s", where, what)
				hits++
			}
		}
	}
	for _, n := range l.Nodes() {
		page, err := opsPage(ctx, n, "/metrics")
		if err != nil {
			return err
		}
		look("/metrics of "+n.Name(), page)
		log, err := os.ReadFile(n.LogPath())
		if err != nil {
			return err
		}
		var kept []string
		for line := range strings.Lines(string(log)) {
			if !strings.HasPrefix(line, "[dev mail, not sent]") { // printing codes is the purpose of a gate without a mail server
				kept = append(kept, line)
			}
		}
		look("the log of "+n.Name(), strings.Join(kept, ""))
	}
	r.Note("secrets", len(secrets))
	r.Zero("found", hits)
	return nil
}

// abuseHTTP implements bar S11.
func abuseHTTP(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 1, Status: 1, Gate: 1})
	if err != nil {
		return err
	}
	uid, err := l.users(ctx, 1)
	if err != nil {
		return err
	}
	addr := l.Gate[0].Addr()
	// status sends head and body and returns the code of the status line, or 0 if the gate only closes.
	status := func(head string, body []byte, pieces int, gap time.Duration) (code int, took time.Duration, err error) {
		c, err := net.DialTimeout("tcp", addr, 5*time.Second)
		if err != nil {
			return 0, 0, err
		}
		defer c.Close()
		begun := time.Now()
		_ = c.SetDeadline(begun.Add(25 * time.Second))
		answer := make(chan []byte, 1)
		go func() {
			b, _ := io.ReadAll(io.LimitReader(c, 64<<10)) // an end or a reset
			answer <- b
		}()
		_, _ = io.WriteString(c, head)
		var b []byte
		for range pieces {
			if _, err := c.Write(body); err != nil {
				break
			}
			select {
			case b = <-answer:
			case <-time.After(gap):
			}
			if b != nil {
				break
			}
		}
		if b == nil {
			b = <-answer
		}
		_, _ = fmt.Sscanf(string(b), "HTTP/1.1 %d", &code)
		return code, time.Since(begun), nil
	}
	const post = "POST /user_login HTTP/1.1\r\nHost: x\r\n"
	abuses := []struct {
		name   string
		head   string
		body   []byte
		pieces int
		gap    time.Duration
		codes  []int
	}{
		{"header of 1 MiB", post + "X-Long: " + strings.Repeat("a", 1<<20) + "\r\n\r\n", nil, 0, 0, []int{431, 0}},
		{"body of 10 MiB", post + "Content-Length: 10485760\r\n\r\n", bytes.Repeat([]byte("a"), 1<<20), 10, time.Millisecond, []int{413, 0}},
		{"endless chunks", post + "Transfer-Encoding: chunked\r\n\r\n", []byte("400\r\n" + strings.Repeat("a", 1024) + "\r\n"), 400, 10 * time.Millisecond, []int{413, 0}},
		{"slow header", post + "X-A: ", []byte("a"), 40, 500 * time.Millisecond, []int{408, 0}},
		{"slow body", post + "Content-Length: 1000\r\n\r\n", []byte("a"), 40, 500 * time.Millisecond, []int{408, 0, 200, 400}},
	}
	err = each(len(abuses), len(abuses), func(i int) error {
		a := abuses[i]
		code, took, err := status(a.head, a.body, a.pieces, a.gap)
		if err != nil {
			return err
		}
		r.Is(a.name, slices.Contains(a.codes, code), fmt.Sprintf("status %d", code))
		AtMost(r, a.name+" ended after", took, 15*time.Second)
		return nil
	})
	if err != nil {
		return err
	}
	_, err = l.gate.Login(ctx, email(uid), password(uid))
	r.Is("an honest login passes", err == nil, err)
	return nil
}
