//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"parley/client"
)

// post sends a body to the gate and returns the answer.
func (l *Lab) post(ctx context.Context, route, body string) (string, error) {
	return fetch(ctx, http.MethodPost, l.GateURL()+route, body)
}

// whoExists implements bar S2.
func whoExists(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 1, Status: 1, Gate: 1})
	if err != nil {
		return err
	}
	n := w.N(200, 25)
	first, err := l.users(ctx, n)
	if err != nil {
		return err
	}
	// The first login gives each row a hash of the kind that registrations make.
	for i := range n {
		uid := first + int32(i)
		if _, err := l.gate.Login(ctx, email(uid), password(uid)); err != nil {
			return err
		}
	}
	times := map[bool][]time.Duration{}
	replies := map[bool]map[string]int{true: {}, false: {}}
	for i := range n {
		for _, known := range []bool{i%2 == 0, i%2 != 0} {
			address := email(first + int32(i))
			if !known {
				address = fmt.Sprintf("nobody%d@chaos.example", i)
			}
			begun := time.Now()
			body, err := l.post(ctx, "/user_login", fmt.Sprintf(`{"email":%q,"passwd":"wrong-password","plain":true}`, address))
			if err != nil {
				return err
			}
			times[known] = append(times[known], time.Since(begun))
			replies[known][strings.ReplaceAll(body, address, "ADDRESS")]++
		}
	}
	yes, no := percentile(times[true], 0.5), percentile(times[false], 0.5)
	differ := 100 * float64(max(yes, no)-min(yes, no)) / float64(max(yes, no))
	r.Note("tries of each", n)
	same := len(replies[true]) == 1 && len(replies[false]) == 1
	for body := range replies[true] {
		same = same && replies[false][body] > 0
	}
	r.Is("same answer", same, replies)
	r.Note("median, user exists", yes)
	r.Note("median, nobody", no)
	AtMost(r, "differ by percent", differ, w.floor(25, 40))
	return nil
}

// hashes returns the number of passwords that a gate has hashed.
func (l *Lab) hashes(ctx context.Context) (int64, error) {
	m, err := metrics(ctx, l.Gate[0])
	return int64(m["parley_gate_hash_seconds_count"]), err
}

// guessPassword implements bar S3.
func guessPassword(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 1, Status: 1, Gate: 1})
	if err != nil {
		return err
	}
	uid, err := l.users(ctx, 1)
	if err != nil {
		return err
	}
	t, err := l.gate.Login(ctx, email(uid), password(uid))
	if err != nil {
		return err
	}
	conn, err := client.Dial(ctx, t, client.Options{})
	if err != nil {
		return err
	}
	resume := conn.Ticket()
	conn.Close()
	<-conn.Done()
	before, err := l.hashes(ctx)
	if err != nil {
		return err
	}
	guesses := w.N(10_000, 400)
	var limited, invalid, busy, other atomic.Int64
	err = each(guesses, 8, func(i int) error {
		_, err := l.gate.Login(ctx, email(uid), fmt.Sprintf("guess-%d", i))
		switch code := client.CodeOf(err); {
		case code == client.CodeRateLimited && client.RetryAfter(err) > 0:
			limited.Add(1)
		case code == client.CodePasswdInvalid:
			invalid.Add(1)
		case code == client.CodeBusy:
			busy.Add(1) // too many wait for a hash: the password was not checked
		default:
			w.Logf("guess: %v", err)
			other.Add(1)
		}
		return nil
	})
	if err != nil {
		return err
	}
	after, err := l.hashes(ctx)
	if err != nil {
		return err
	}
	conn, err = client.Dial(ctx, resume, client.Options{})
	if err == nil {
		conn.Close()
	}
	r.Note("guesses", guesses)
	AtMost(r, "passwords checked", after-before, 6)
	r.Note("refused with a wait", limited.Load())
	r.Note("refused as busy", busy.Load())
	r.Zero("other answers", other.Load())
	r.Is("the owner resumes", err == nil, err)
	return nil
}

// mailedCode returns the code that a gate without a mail server printed for an address.
func (l *Lab) mailedCode(to string) string {
	b, err := os.ReadFile(l.Gate[0].LogPath())
	if err != nil {
		return ""
	}
	code := ""
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "[dev mail, not sent]") && strings.Contains(line, "to="+to+" ") {
			_, rest, _ := strings.Cut(line, "code=")
			code, _, _ = strings.Cut(rest, " ")
		}
	}
	return code
}

// guessCode implements bar S4.
func guessCode(ctx context.Context, w *World, r *Report) error {
	l, err := w.Start(ctx, Layout{Chat: 1, Status: 1, Gate: 1})
	if err != nil {
		return err
	}
	const address = "guess@chaos.example"
	if err := l.gate.RequestCode(ctx, address); err != nil {
		return err
	}
	code := l.mailedCode(address)
	if len(code) < 6 {
		return errors.New("the gate printed no code")
	}
	checked := int64(0)
	for i := range 10 {
		wrong := fmt.Sprintf("%06d", i)
		if wrong == code {
			continue
		}
		_, err := l.gate.Register(ctx, client.Registration{Name: "guess", Email: address, Password: "abcdefgh", Code: wrong})
		if client.CodeOf(err) == client.CodeVarify {
			checked++
		}
	}
	_, err = l.gate.Register(ctx, client.Registration{Name: "guess", Email: address, Password: "abcdefgh", Code: code})
	AtMost(r, "guesses checked", checked, 5)
	r.Is("then the right code is refused", err != nil, "it was accepted")
	const other = "many@chaos.example"
	sent := int64(0)
	for range 10 {
		if l.gate.RequestCode(ctx, other) == nil {
			sent++
		}
	}
	AtMost(r, "codes to one mailbox", sent, 5)
	return nil
}
