package conform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"parley/internal/wire"
	"parley/lab/stockmodel"
)

// object is a JSON object in a reply. A member of another type than requested reads as zero; need reports it.
type object map[string]any

// fields is the body of a request.
type fields = map[string]any

func decode(b []byte) (object, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var o object
	if err := d.Decode(&o); err != nil {
		return nil, err
	}
	if o == nil {
		return nil, errors.New("null")
	}
	return o, nil
}

func (o object) has(key string) bool { _, ok := o[key]; return ok }

func (o object) num(key string) int64 {
	n, _ := o[key].(json.Number)
	v, err := strconv.ParseInt(n.String(), 10, 32) // the range that the stock client can read
	if err != nil {
		return 0
	}
	return v
}

func (o object) str(key string) string { s, _ := o[key].(string); return s }

func (o object) list(key string) []object {
	items, _ := o[key].([]any)
	out := make([]object, len(items))
	for i := range items {
		out[i], _ = items[i].(map[string]any)
	}
	return out
}

// need fails unless the object has members of the types that the stock client reads: i integer, s string, b bool, a
// array. A spec is of the form "uid:i name:s".
func (a *attempt) need(what string, o object, spec ...string) {
	for _, s := range spec {
		key, kind := s[:len(s)-2], s[len(s)-1]
		ok, want := false, ""
		switch v := o[key]; kind {
		case 'i':
			n, isNum := v.(json.Number)
			_, err := strconv.ParseInt(n.String(), 10, 32)
			ok, want = isNum && err == nil, "an integer of 32 bits"
		case 's':
			_, ok = v.(string)
			want = "a string"
		case 'b':
			_, ok = v.(bool)
			want = "true or false"
		case 'a':
			_, ok = v.([]any)
			want = "an array"
		}
		if !ok {
			a.failf("%s: expected %s to be %s, got %v", what, key, want, o[key])
		}
	}
}

// without fails if the object has any of the keys.
func (a *attempt) without(what string, o object, keys ...string) {
	for _, k := range keys {
		a.want(!o.has(k), "%s: expected no %q, got one", what, k)
	}
}

// conn is a connection controlled by a check.
type conn struct {
	a       *attempt
	nc      net.Conn
	uid     int32
	token   string
	addr    string
	welcome object
	last    frame // the latest frame that was read
	spare   []frame
}

type frame struct {
	id   wire.MsgID
	body []byte
	at   time.Time
}

const (
	// patience bounds the wait for an answer.
	patience = 20 * time.Second
	// atOnce bounds the wait for something immediate. It is shorter than a server's login timeout.
	atOnce = 8 * time.Second
)

// stockOptions are those of a stock client, which knows no transport but is shown to each.
func (e *env) stockOptions() stockmodel.Options {
	return stockmodel.Options{
		Patience: patience, Stalls: e.stalls,
		Dial: func(ctx context.Context, _, addr string) (net.Conn, error) { return e.connect(ctx, addr) },
	}
}

func (a *attempt) dial(addr string) *conn {
	nc, err := a.connect(a.ctx, addr)
	a.ok("connect to the chat node "+addr, err)
	c := &conn{a: a, nc: nc, addr: addr}
	a.conns = append(a.conns, c)
	return c
}

// enter sends a 1005 with additional members, and expects a successful 1006 as the first frame.
func (a *attempt) enter(t ticket, more fields) *conn {
	c := a.dial(t.addr)
	body := fields{"uid": t.uid, "token": t.token}
	for k, v := range more {
		body[k] = v
	}
	c.uid, c.token = t.uid, t.token
	c.send(1005, body)
	f := c.read()
	equal(a, "first frame after a login", 1006, int(f.id))
	c.welcome = c.object(f)
	equal(a, "error of 1006", 0, c.welcome.num("error"))
	return c
}

// stock logs a user in as the stock client does.
func (a *attempt) stock(u *Account) *conn { return a.enter(a.login(u), nil) }

// native logs a user in as a native client; it skips the check if the cluster has no native extension.
func (a *attempt) native(u *Account, device string) *conn { return a.nativeAt(a.login(u), device) }

func (a *attempt) nativeAt(t ticket, device string) *conn {
	c := a.enter(t, fields{"client": "conform/1", "caps": []string{"batch", "resume", "gap"}, "device": device})
	if !c.welcome.has("caps") {
		a.skipf("no native extension here: 1006 has no caps")
	}
	c.alive() // a push may miss a session that has just sent its 1006; after its first answer it cannot
	return c
}

// process logs a user in with a model of the stock client, and waits until it has loaded.
func (a *attempt) process(u *Account) *stockmodel.Process {
	p := stockmodel.New(a.stockOptions())
	a.procs = append(a.procs, p)
	a.enterProcess(p, u)
	a.loaded(p)
	return p
}

func (a *attempt) enterProcess(p *stockmodel.Process, u *Account) {
	t := a.login(u)
	code, err := p.Login(a.ctx, t.addr, t.uid, t.token)
	a.healthy(p)
	a.ok("log in", err)
	equal(a, "error of 1006", 0, code)
}

func (a *attempt) loaded(p *stockmodel.Process) {
	err := p.Loaded(a.ctx)
	a.healthy(p)
	a.ok("load", err)
}

// healthy fails if the client has crashed, hangs or shows something twice.
func (a *attempt) healthy(p *stockmodel.Process) {
	if f := p.Faults(); len(f) > 0 {
		a.failf("expected a stock client in good health, got %v", f[0])
	}
}

func (c *conn) send(id wire.MsgID, body fields) {
	b, err := json.Marshal(body)
	if err != nil {
		panic(err) // only plain values are sent
	}
	c.sendBody(id, string(b))
}

func (c *conn) sendBody(id wire.MsgID, body string) {
	frame, err := wire.AppendFrame(nil, id, []byte(body))
	if err != nil {
		panic(err)
	}
	c.sendBytes(frame)
}

// sendBytes ignores write errors: the next read reports a broken connection.
func (c *conn) sendBytes(b []byte) {
	_ = c.nc.SetWriteDeadline(time.Now().Add(patience))
	_, _ = c.nc.Write(b)
}

func (c *conn) readFor(d time.Duration) (frame, error) {
	if len(c.spare) > 0 {
		f := c.spare[0]
		c.spare = c.spare[1:]
		return f, nil
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(d))
	var h [wire.HeaderLen]byte
	if n, err := io.ReadFull(c.nc, h[:]); err != nil {
		if n > 0 && errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("half a frame header, then the end")
		}
		return frame{}, err
	}
	id, n := wire.ParseHeader(h[:])
	_ = c.nc.SetReadDeadline(time.Now().Add(patience))
	f := frame{id, make([]byte, n), time.Now()}
	_, err := io.ReadFull(c.nc, f.body)
	if err != nil {
		err = fmt.Errorf("a %d cut off after its header: %w", uint16(id), err)
	}
	c.last = f
	return f, err
}

func (c *conn) read() frame {
	f, err := c.readFor(patience)
	if err != nil {
		c.a.failf("expected a frame, got %v", err)
	}
	return f
}

func (c *conn) object(f frame) object {
	o, err := decode(f.body)
	if err != nil {
		c.a.failf("expected a JSON object in a %d, got %q", uint16(f.id), f.body)
	}
	return o
}

// expect returns the body of the next frame, which must have the given id. It ignores answers to heartbeats.
func (c *conn) expect(id wire.MsgID) object {
	for {
		f, err := c.readFor(patience)
		if err != nil {
			c.a.failf("expected a %d, got %v", uint16(id), err)
		}
		if f.id == wire.MsgHeartbeatRsp && id != wire.MsgHeartbeatRsp {
			continue
		}
		if f.id != id {
			c.a.failf("expected a %d, got a %d: %.200s", uint16(id), uint16(f.id), f.body)
		}
		return c.object(f)
	}
}

// until returns the body of the next frame with the given id, and keeps other frames for later.
func (c *conn) until(id wire.MsgID) object {
	var others []frame
	for {
		f, err := c.readFor(patience)
		if err != nil {
			c.a.failf("expected a %d, got %v", uint16(id), err)
		}
		if f.id == id {
			c.spare = append(others, c.spare...)
			return c.object(f)
		}
		others = append(others, f)
	}
}

// brings reports whether a text is pushed within d. It ignores earlier frames.
func (c *conn) brings(content string, d time.Duration) bool {
	for end := time.Now().Add(d); ; {
		f, err := c.readFor(time.Until(end))
		if isTimeout(err) {
			return false
		}
		c.a.ok("read", err)
		if f.id != 1019 {
			continue
		}
		for _, m := range c.object(f).list("chat_datas") {
			if m.str("content") == content {
				return true
			}
		}
	}
}

// silent fails if a frame other than the answer to a heartbeat arrives within d.
func (c *conn) silent(d time.Duration) {
	for end := time.Now().Add(d); ; {
		f, err := c.readFor(time.Until(end))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			c.a.failf("expected silence, got %v", err)
		}
		if f.id != wire.MsgHeartbeatRsp {
			c.a.failf("expected silence, got a %d: %.200s", uint16(f.id), f.body)
		}
	}
}

// closed fails unless the server closes the connection within d. It returns the frames received before.
func (c *conn) closed(d time.Duration) (frames []frame) {
	for end := time.Now().Add(d); ; {
		f, err := c.readFor(time.Until(end))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.a.failf("expected the server to close within %v, got an open connection", d)
		}
		if err != nil {
			return frames
		}
		frames = append(frames, f)
	}
}

func (c *conn) close() { _ = c.nc.Close() } // it may be closed already

// alive fails unless the session answers.
func (c *conn) alive() {
	c.send(1007, fields{"uid": strconv.Itoa(int(c.uid))})
	equal(c.a, "uid of 1008", int64(c.uid), c.until(1008).num("uid"))
}

// load does what the stock client does after the 1006: it reads all threads and the history of each. It returns the
// threads.
func (c *conn) load() []object {
	threads := c.threads()
	for _, t := range threads {
		c.history(t.num("thread_id"), 0)
	}
	return threads
}

// threads reads the list of the user's threads.
func (c *conn) threads() (threads []object) {
	for cursor := int64(0); ; {
		c.send(1025, fields{"uid": c.uid, "thread_id": cursor})
		page := c.until(1026)
		equal(c.a, "error of 1026", 0, page.num("error"))
		c.a.need("1026", page, "error:i", "load_more:b", "next_last_id:i", "threads:a")
		threads = append(threads, page.list("threads")...)
		if page["load_more"] != true {
			break
		}
		c.a.want(page.num("next_last_id") > cursor, "expected load_more with a later cursor, got %d after %d", page.num("next_last_id"), cursor)
		cursor = page.num("next_last_id")
	}
	return threads
}

// history reads a thread to its end, as the stock client does.
func (c *conn) history(thread, after int64) (texts []object) {
	for {
		c.send(1029, fields{"thread_id": thread, "message_id": after})
		page := c.until(1030)
		equal(c.a, "error of 1030", 0, page.num("error"))
		c.a.need("1030", page, "error:i", "thread_id:i", "last_message_id:i", "load_more:b", "chat_datas:a")
		for _, m := range page.list("chat_datas") {
			c.a.need("1030 chat_datas", m, "sender:i", "msg_id:i", "thread_id:i", "msg_content:s", "chat_time:s", "status:i")
			c.a.want(m.num("msg_id") > after, "expected ascending ids in 1030, got %d after %d", m.num("msg_id"), after)
			after = m.num("msg_id")
			texts = append(texts, m)
		}
		if page["load_more"] != true {
			return texts
		}
		c.a.want(len(page.list("chat_datas")) > 0, "expected load_more only after at least one text, got an empty page")
	}
}

// text sends texts and returns the elements of the 1018.
func (c *conn) text(to int32, thread int64, contents ...string) []object {
	return c.textAs(to, thread, nil, contents...)
}

// textAs sends texts with the given unique ids; missing ids are generated.
func (c *conn) textAs(to int32, thread int64, ids []string, contents ...string) []object {
	elements := []fields{}
	for i, content := range contents {
		id := newUUID()
		if i < len(ids) {
			id = ids[i]
		}
		elements = append(elements, fields{"content": content, "unique_id": id})
	}
	got := c.sendTexts(to, thread, elements)
	// A server may limit the texts of a user. It then refuses the last ones, which are sent again after retry_ms.
	for tries := 0; tries < maxTextTries; tries++ {
		kept := len(got)
		for kept > 0 && got[kept-1].num("status") == 1 && got[kept-1].has("code") && got[kept-1].num("code") == 2003 {
			kept--
		}
		if kept == len(got) {
			break
		}
		time.Sleep(textRetry)
		got = append(got[:kept], c.sendTexts(to, thread, elements[kept:])...)
	}
	return got
}

const (
	// maxTextTries bounds the repetitions of texts refused because of their rate.
	maxTextTries = 20
	// textRetry is the wait before a repetition: by default, twelve more texts are allowed by then.
	textRetry = 250 * time.Millisecond
)

func (c *conn) sendTexts(to int32, thread int64, elements []fields) []object {
	c.send(1017, fields{"fromuid": c.uid, "touid": to, "thread_id": thread, "text_array": elements})
	reply := c.until(1018)
	c.a.need("1018", reply, "error:i", "fromuid:i", "thread_id:i", "chat_datas:a")
	equal(c.a, "error of 1018", 0, reply.num("error"))
	got := reply.list("chat_datas")
	equal(c.a, "elements of 1018", len(elements), len(got))
	for i, m := range got {
		c.a.need("1018 chat_datas", m, "message_id:i", "unique_id:s", "content:s", "status:i")
		equal(c.a, "unique_id of 1018", elements[i]["unique_id"].(string), m.str("unique_id"))
		equal(c.a, "content of 1018", elements[i]["content"].(string), m.str("content"))
	}
	return got
}
