package foreign

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"parley/bench/scan"
)

// nats is a NATS server with JetStream. Each user has a subject, all of them are in one stream on disk, and each user who is
// online has a push consumer of it, so that texts are delivered after they are stored, as by Parley.
type nats struct {
	at      string
	connect []byte // the CONNECT line
	run     uint32
	replica int
	logins  atomic.Uint32 // makes the names of consumers differ
}

func newNATS(u *url.URL, run uint32) (Server, error) {
	at, err := hostPort(u, "4222", "nats")
	if err != nil {
		return nil, err
	}
	n := &nats{at: at, run: run, replica: 1}
	if s := u.Query().Get("replicas"); s != "" {
		if n.replica, err = strconv.Atoi(s); err != nil || n.replica < 1 || n.replica > 5 {
			return nil, errors.New("replicas must be 1 to 5")
		}
	}
	who := map[string]any{"verbose": false, "pedantic": false, "lang": "go", "version": "1", "name": "parley-bench", "protocol": 1}
	if password, ok := u.User.Password(); ok && u.User.Username() == "" {
		who["auth_token"] = password
	} else if ok {
		who["user"], who["pass"] = u.User.Username(), password
	}
	b, err := json.Marshal(who)
	if err != nil {
		return nil, err
	}
	n.connect = fmt.Appendf(nil, "CONNECT %s\r\nPING\r\n", b)
	return n, nil
}

func (n *nats) Address() string { return n.at }

func (n *nats) stream() string           { return fmt.Sprintf("PARLEY_BENCH_%08x", n.run) }
func (n *nats) subject(uid int32) string { return fmt.Sprintf("parley.bench.%08x.%d", n.run, uid) }

// Prepare makes the stream.
func (n *nats) Prepare(ctx context.Context, _ int32, _ int) error {
	return n.ask(ctx, "$JS.API.STREAM.CREATE."+n.stream(), map[string]any{
		"name": n.stream(), "subjects": []string{fmt.Sprintf("parley.bench.%08x.*", n.run)}, "storage": "file", "retention": "limits",
		"max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "num_replicas": n.replica,
	})
}

// Forget removes the stream with everything in it.
func (n *nats) Forget(ctx context.Context) error {
	return n.ask(ctx, "$JS.API.STREAM.DELETE."+n.stream(), nil)
}

// askTime bounds a request that is not part of the load.
const askTime = 10 * time.Second

// ask sends a request to JetStream and waits for the answer.
func (n *nats) ask(ctx context.Context, subject string, body any) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", n.at)
	if err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	b := []byte(nil)
	if body != nil {
		if b, err = json.Marshal(body); err != nil {
			return fmt.Errorf("nats: %w", err)
		}
	}
	var answer []byte
	var in natsReader
	in.write = func(b []byte) { _, _ = conn.Write(b) } // a failed write shows in the next read
	in.message = func(_ string, _ []byte, payload []byte) { answer = bytes.Clone(payload) }
	if _, err := conn.Write(fmt.Appendf(bytes.Clone(n.connect), "SUB _INBOX.ask 1\r\nPUB %s _INBOX.ask %d\r\n%s\r\n", subject, len(b), b)); err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	for buf := make([]byte, 4096); answer == nil; {
		k, err := conn.Read(buf)
		if err == nil {
			err = in.take(buf[:k])
		}
		if err != nil {
			return fmt.Errorf("nats: no answer of JetStream: %w", err)
		}
	}
	if why := jetStreamError(answer); why != "" {
		return fmt.Errorf("nats: %s: %s", subject, why)
	}
	return nil
}

// jetStreamError returns what is wrong according to an answer of JetStream, "" if nothing is.
func jetStreamError(answer []byte) string {
	if !bytes.Contains(answer, []byte(`"error":{`)) {
		return ""
	}
	var a struct {
		Error struct {
			Code        int
			Description string
		}
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return "an answer that cannot be read"
	}
	return fmt.Sprintf("%d %s", a.Error.Code, a.Error.Description)
}

func (n *nats) Speaker(uid, partner int32, line Line) Speaker {
	s := &natsUser{server: n, uid: uid, line: line, to: n.subject(partner)}
	s.in.write, s.in.message, s.in.pong = line.Send, s.message, s.welcomed
	return s
}

// natsUser is a user of a NATS server.
type natsUser struct {
	server *nats
	line   Line
	uid    int32
	to     string // the partner's subject
	inbox  string // of this connection
	in     natsReader
	buf    []byte
}

func (u *natsUser) Begin() {
	u.in.stream = parts{}
	u.inbox = fmt.Sprintf("_INBOX.%08x.%d.%d", u.server.run, u.uid, u.server.logins.Add(1))
	u.line.Send(u.server.connect)
}

// welcomed goes on when the server has accepted the connection. Answers come to INBOX.a, acknowledgements to INBOX.k.COUNTER and
// texts to INBOX.t, which a consumer wants subscribed to by its full name.
func (u *natsUser) welcomed() {
	config, err := json.Marshal(map[string]any{
		"stream_name": u.server.stream(),
		"config": map[string]any{
			"deliver_subject": u.inbox + ".t", "filter_subject": u.server.subject(u.uid), "deliver_policy": "new", "ack_policy": "none",
			"replay_policy": "instant", "mem_storage": true, "num_replicas": 1, "inactive_threshold": time.Second,
		},
	})
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	u.line.Send(fmt.Appendf(nil, "SUB %[1]s.a 1\r\nSUB %[1]s.k.* 2\r\nSUB %[1]s.t 3\r\nPUB $JS.API.CONSUMER.CREATE.%[2]s %[1]s.a %[3]d\r\n%[4]s\r\n", u.inbox, u.server.stream(), len(config), config))
}

func (u *natsUser) Say(counter uint32, content []byte) {
	b := append(append(u.buf[:0], "PUB "...), u.to...)
	b = append(append(append(b, ' '), u.inbox...), ".k."...)
	b = strconv.AppendUint(b, uint64(counter), 10)
	b = strconv.AppendInt(append(b, ' '), int64(len(content)), 10)
	b = append(append(append(b, "\r\n"...), content...), "\r\n"...)
	u.buf = b
	u.line.Send(b)
}

func (u *natsUser) Heard(data []byte) error { return u.in.take(data) }

func (u *natsUser) message(subject string, reply, payload []byte) {
	rest, ours := strings.CutPrefix(subject, u.inbox)
	if !ours { // a consumer leaves a text its subject
		u.line.Delivered(streamNumber(reply), payload)
		return
	}
	switch digits, isAck := strings.CutPrefix(rest, ".k."); {
	case isAck:
		counter, err := strconv.ParseUint(digits, 10, 32)
		if err != nil {
			return // nobody asked for it
		}
		if why := jetStreamError(payload); why != "" {
			u.line.Refused(uint32(counter), why)
		} else {
			u.line.Acked(uint32(counter), scan.Number(payload, `"seq":`))
		}
	default:
		if why := jetStreamError(payload); why != "" {
			u.in.err = errors.New("no consumer: " + why)
		} else {
			u.line.LoggedIn()
		}
	}
}

// streamNumber returns the number of a text in the stream from the subject on which a consumer would acknowledge it:
// $JS.ACK.STREAM.CONSUMER.TIMES.NUMBER and more, or with a domain and an account before the stream.
func streamNumber(reply []byte) int64 {
	dots := bytes.Count(reply, []byte{'.'})
	skip := 5
	if dots >= 10 {
		skip = 7
	}
	for range skip {
		_, after, ok := bytes.Cut(reply, []byte{'.'})
		if !ok {
			return 0
		}
		reply = after
	}
	digits, _, _ := bytes.Cut(reply, []byte{'.'})
	n, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// natsReader takes a server's stream apart.
type natsReader struct {
	write   func(b []byte)
	message func(subject string, reply, payload []byte)
	pong    func()
	err     error // of message
	stream  parts
}

// maxPayload is the largest payload of a NATS server by default, in bytes.
const maxPayload = 1 << 20

var errNATS = errors.New("nats: the server sent what cannot be read")

func (r *natsReader) take(data []byte) error { return r.stream.take(data, 2*maxPayload, r.one) }

var crlf = []byte("\r\n")

// one takes one operation off data and returns the rest; nil if data does not hold a whole one.
func (r *natsReader) one(data []byte) (rest []byte, err error) {
	line, rest, ok := bytes.Cut(data, crlf)
	if !ok {
		return nil, nil
	}
	switch {
	case bytes.HasPrefix(line, []byte("MSG ")):
		f := bytes.Fields(line)
		if len(f) != 4 && len(f) != 5 {
			return nil, errNATS
		}
		n, err := strconv.Atoi(string(f[len(f)-1]))
		if err != nil || n < 0 || n > maxPayload {
			return nil, errNATS
		}
		if len(rest) < n+len(crlf) {
			return nil, nil
		}
		var reply []byte
		if len(f) == 5 {
			reply = f[3]
		}
		r.message(string(f[1]), reply, rest[:n])
		return rest[n+len(crlf):], r.err
	case bytes.Equal(line, []byte("PING")):
		r.write([]byte("PONG\r\n"))
	case bytes.Equal(line, []byte("PONG")):
		if r.pong != nil {
			r.pong()
		}
	case bytes.HasPrefix(line, []byte("-ERR")):
		return nil, fmt.Errorf("nats: %s", line)
	}
	return rest, nil // INFO and +OK say nothing that matters here
}
