package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/wire"
	"parley/lab/launch"
)

// ids are all messages that a client may send after its login, and some that none may send.
var (
	requestIDs = []wire.MsgID{
		wire.MsgSearch, wire.MsgApply, wire.MsgApprove, wire.MsgText, wire.MsgThreads, wire.MsgOpenThread, wire.MsgHistory,
		wire.MsgSync,
	}
	strangeIDs = []wire.MsgID{0, 1, 1000, wire.MsgLoginRsp, 1012, wire.MsgTextPush, wire.MsgReplaced, 1031, wire.MsgGoodbye, 0x7fff, 0x8000, 0xffff}
	badBodies  = map[string]string{
		"empty": "", "not JSON": "hello", "half JSON": `{"uid":`, "array": "[]", "string": `"x"`, "number": "17", "null": "null",
		"wrong types":  `{"uid":{},"touid":"x","thread_id":[],"text_array":7,"message_id":true,"other_id":"1","cursors":{"a":1}}`,
		"huge numbers": `{"uid":99999999999999999999,"touid":4294967297,"thread_id":1e308,"message_id":-1e308,"other_id":1.5}`,
		"negative":     `{"uid":-1,"touid":-1,"thread_id":-1,"message_id":-1,"other_id":-2147483648}`,
		"not UTF-8":    "{\"uid\":\"\xff\xfe\",\"touid\":1}", "NUL": "{\"uid\":\"a\x00b\"}",
		"deep arrays": strings.Repeat("[", 16000), "deep objects": strings.Repeat(`{"a":`, 3200), "deep value": `{"uid":` + strings.Repeat("[", 8000) + strings.Repeat("]", 8000) + "}",
		"doubled keys": `{"uid":1,"uid":2,"touid":1,"touid":2}`,
	}
)

// hostile is a cluster whose first node is attacked, with two friends who must be able to go on exchanging texts, and
// the resources that must not grow.
type hostile struct {
	*world
	uid    int32 // the attacker; each attack has its own connection
	a, b   *client.Conn
	victim client.To // a thread of which the attacker is not a member
}

func newHostile(t *testing.T) *hostile {
	return hostileTo(t, ownCluster(t, launch.Options{Chat: 1, Configure: func(_ *launch.Node, _ int, f *launch.INI) error {
		f.Set("Limits", "LoginTimeout", "5s")
		f.Set("Limits", "Linger", "500ms")
		return nil
	}}))
}

func hostileTo(t *testing.T, w *world) *hostile {
	ann, bob, thread := w.pair(t)
	h := &hostile{world: w, uid: w.users(t, 1), a: w.login(t, ann, 0), b: w.login(t, bob, 0), victim: client.InThread(thread)}
	exchange(t, h.a, h.b)
	return h
}

// resources is a node's use of the machine.
type resources struct{ goroutines, descriptors, rss float64 }

func (h *hostile) resources(t testing.TB) resources {
	t.Helper()
	m := metrics(t, h.Chat[0])
	r := resources{m["go_goroutines"], m["process_open_fds"], m["process_resident_memory_bytes"]}
	if runtime.GOOS == "linux" {
		fds, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(h.Chat[0].Pid()), "fd"))
		require.NoError(t, err)
		r.descriptors = float64(len(fds))
	}
	return r
}

// unharmed checks that the bystanders can still exchange texts and that the node uses no more resources than before.
func (h *hostile) unharmed(t testing.TB, before resources) {
	t.Helper()
	require.NoError(t, h.a.Err())
	require.NoError(t, h.b.Err())
	exchange(t, h.a, h.b)
	const mem = 48 << 20 // pools and the headroom of the garbage collector
	eventually(t, patience, "goroutines, descriptors and memory to be back where they were", func() (bool, string) {
		now := h.resources(t)
		// The number of SQL and Redis connections varies by itself.
		ok := now.goroutines <= before.goroutines+20 && now.descriptors <= before.descriptors+12 && now.rss <= before.rss+mem
		return ok, fmt.Sprintf("before %+v, now %+v", before, now)
	})
	require.Zero(t, metric(t, h.Chat[0], "parley_chat_panics_total"))
	require.Equal(t, 2.0, metric(t, h.Chat[0], "parley_chat_connections"))
}

// crowd runs the same attack on many connections at once.
func crowd(n int, f func()) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(f)
	}
	wg.Wait()
}

func TestHostileFramesBeforeLoginCloseTheirConnection(t *testing.T) {
	h := newHostile(t)
	addr := h.Chat[0].Addr()
	login := func(extra string) []byte {
		return frame(wire.MsgLogin, fmt.Sprintf(`{"uid":%d,"token":"x"%s}`, h.uid, extra))
	}
	attacks := map[string]func() []byte{
		"longest length":          func() []byte { return []byte{0x03, 0xed, 0xff, 0xff} },
		"negative length":         func() []byte { return []byte{0x03, 0xed, 0x80, 0x00} },
		"one byte too long":       func() []byte { return frame(wire.MsgLogin, strings.Repeat(" ", wire.MaxLoginBody+1)) },
		"half a header":           func() []byte { return []byte{0x03, 0xed} },
		"a header alone":          func() []byte { return []byte{0x03, 0xed, 0x00, 0x20} },
		"half a body":             func() []byte { return login("")[:20] },
		"nothing":                 func() []byte { return nil },
		"HTTP":                    func() []byte { return []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n") },
		"TLS":                     func() []byte { return []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03") },
		"zeros":                   func() []byte { return make([]byte, 4096) },
		"a wrong token":           func() []byte { return login("") },
		"a wrong token, native":   func() []byte { return login(`,"client":"x/1"`) },
		"login twice in one":      func() []byte { return append(login(""), login("")...) },
		"a text behind the login": func() []byte { return append(login(""), frame(wire.MsgText, "{}")...) },
		"a bad device":            func() []byte { return login(`,"client":"x/1","device":"A B"`) },
		"a bad heartbeat":         func() []byte { return login(`,"client":"x/1","heartbeat_s":1`) },
		"a long token": func() []byte {
			return frame(wire.MsgLogin, fmt.Sprintf(`{"uid":%d,"token":%q}`, h.uid, strings.Repeat("x", 1900)))
		},
		"user 0":                 func() []byte { return frame(wire.MsgLogin, `{"uid":0,"token":"x"}`) },
		"a user beyond 31 bits":  func() []byte { return frame(wire.MsgLogin, `{"uid":2147483648,"token":"x"}`) },
		"a user as text":         func() []byte { return frame(wire.MsgLogin, `{"uid":"1001","token":"x"}`) },
		"a user nobody has made": func() []byte { return frame(wire.MsgLogin, `{"uid":2147483647,"token":"x"}`) },
	}
	for _, id := range append(append([]wire.MsgID{wire.MsgHeartbeat}, requestIDs...), strangeIDs...) {
		attacks[fmt.Sprint("id ", id)] = func() []byte { return frame(id, "{}") }
	}
	for name, b := range badBodies {
		attacks["login: "+name] = func() []byte { return frame(wire.MsgLogin, b[:min(len(b), wire.MaxLoginBody)]) }
	}
	run := func(t *testing.T, times int) {
		var wg sync.WaitGroup
		for name, attack := range attacks {
			wg.Go(func() {
				for range times {
					r := dialRaw(t, addr, 0)
					r.write(attack())
					frames, last := r.drain(patience)
					for _, id := range frames {
						if id != wire.MsgLoginRsp || last.Error == wire.CodeOK {
							t.Errorf("%s: answered by %v with code %v", name, frames, last.Error)
						}
					}
				}
			})
		}
		wg.Wait()
	}
	run(t, 1) // growth on first use is not a leak
	before := h.resources(t)
	run(t, 3)
	h.unharmed(t, before)

	// Clients that connect and vanish.
	crowd(300, func() { dialRaw(t, addr, 0).reset() })
	h.unharmed(t, before)
}

func TestHostileFramesAfterLoginCloseTheirConnectionAtMost(t *testing.T) {
	h := newHostile(t)
	type attack struct {
		name   string
		send   []byte
		closes bool // else the connection must still answer a heartbeat
	}
	var attacks []attack
	add := func(name string, closes bool, b ...[]byte) {
		attacks = append(attacks, attack{name, append([]byte(nil), slicesConcat(b)...), closes})
	}
	add("longest length", true, []byte{0x03, 0xf9, 0xff, 0xff})
	add("negative length", true, []byte{0x03, 0xf9, 0x80, 0x00})
	add("one byte too long", true, frame(wire.MsgText, strings.Repeat(" ", wire.DefaultMaxBody+1)))
	add("login again", true, frame(wire.MsgLogin, fmt.Sprintf(`{"uid":%d,"token":"x"}`, h.uid)))
	for _, id := range strangeIDs {
		add(fmt.Sprint("id ", id), false, frame(id, "{}"))
	}
	for _, id := range requestIDs {
		for name, b := range badBodies {
			add(fmt.Sprint(id, " ", name), false, frame(id, b))
		}
	}
	run := func(t *testing.T) {
		for _, a := range attacks {
			r := h.loginRaw(t, h.uid, 0, native, 0)
			r.write(a.send)
			if a.closes {
				r.drain(patience)
			} else {
				r.send(wire.MsgHeartbeat, "{}")
				for {
					id, _, err := r.next(patience)
					require.NoError(t, err, "%s: must leave the connection open", a.name)
					if id == wire.MsgHeartbeatRsp {
						break
					}
				}
			}
			r.Close()
		}
	}
	run(t)
	before := h.resources(t)
	run(t)
	h.unharmed(t, before)

	// A stock client tolerates fewer kinds of answers: it may be disconnected, but must not harm the node.
	for _, a := range attacks {
		r := h.loginRaw(t, h.uid, 0, nil, 0)
		r.write(a.send)
		r.send(wire.MsgSearch, `{"uid":"1"}`)
		for {
			id, _, err := r.next(patience)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "%s: neither answered nor closed", a.name)
			if err != nil || id == wire.MsgSearchRsp {
				break
			}
		}
		r.Close()
	}
	h.unharmed(t, before)
}

func slicesConcat(parts [][]byte) (out []byte) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// Any split or concatenation of the stream is valid.
func TestFramesMayBeSplitAndGluedAnyHow(t *testing.T) {
	h := hostileTo(t, sharedCluster(t))
	r := dialRaw(t, h.Chat[0].Addr(), 0)
	require.NoError(t, r.SetNoDelay(true))
	ticket := h.ticket(t, h.uid, 0)
	byByte := func(b []byte) {
		for i := range b {
			r.write(b[i : i+1])
		}
	}
	byByte(frame(wire.MsgLogin, fmt.Sprintf(`{"uid":%d,"token":%q,"client":"x/1"}`, h.uid, ticket.Token)))
	require.Equal(t, wire.CodeOK, r.expect(wire.MsgLoginRsp).Error)
	friend := h.users(t, 1)
	thread := h.friends(t, h.uid, friend)
	text := func(i int) []byte {
		return frame(wire.MsgText, fmt.Sprintf(`{"touid":%d,"thread_id":%d,"text_array":[{"content":"text %d","unique_id":"split-%d"}]}`, friend, thread, i, i))
	}
	byByte(text(1))
	require.Contains(t, r.expect(wire.MsgTextRsp).raw, "split-1")
	var glued []byte
	for i := 2; i <= 50; i++ {
		glued = append(append(glued, text(i)...), frame(wire.MsgHeartbeat, "{}")...)
	}
	r.write(glued) // 98 frames, in segments of the kernel's choice
	for i := 2; i <= 50; i++ {
		require.Contains(t, r.expect(wire.MsgTextRsp).raw, fmt.Sprintf("split-%d\"", i), "answers come in the order of the requests")
	}
	require.Len(t, h.stored(t, thread), 50)
}

func TestTextsThatMayNotBeStoredAreRefusedAlone(t *testing.T) {
	h := hostileTo(t, sharedCluster(t))
	friend := h.users(t, 1)
	thread := h.friends(t, h.uid, friend)
	f := h.login(t, friend, 0)
	ctx := t.Context()
	victim := h.stored(t, h.victim.ThreadID)

	r := h.loginRaw(t, h.uid, 0, native, 0)
	send := func(thread int64, from, to int32, elements string) *reply {
		t.Helper()
		r.send(wire.MsgText, fmt.Sprintf(`{"fromuid":%d,"touid":%d,"thread_id":%d,"text_array":[%s]}`, from, to, thread, elements))
		return r.expect(wire.MsgTextRsp)
	}
	element := func(id, content string) string {
		return body(t, map[string]string{"content": content, "unique_id": id})
	}
	refused := func(what string, got *reply) {
		t.Helper()
		require.Contains(t, got.raw, `"status":1`, what)
		require.NotContains(t, got.raw, `"status":2`, what)
	}
	refused("another's thread", send(h.victim.ThreadID, h.uid, friend, element("h1", "x")))
	refused("another's thread, as one of its members", send(h.victim.ThreadID, h.a.Profile().UID, h.b.Profile().UID, element("h2", "x")))
	refused("no such thread", send(1<<30, h.uid, friend, element("h3", "x")))
	refused("a stranger, without a thread", send(0, h.uid, h.a.Profile().UID, element("h4", "x")))
	refused("oneself", send(0, h.uid, h.uid, element("h5", "x")))
	refused("too long", send(thread, h.uid, friend, element("h6", strings.Repeat("x", wire.MaxText+1))))
	refused("NUL", send(thread, h.uid, friend, element("h7", "a\x00b")))
	refused("empty", send(thread, h.uid, friend, element("h8", "")))
	refused("no id", send(thread, h.uid, friend, element("", "x")))
	refused("long id", send(thread, h.uid, friend, element(strings.Repeat("i", wire.MaxUniqueID+1), "x")))
	require.NotZero(t, send(thread, h.uid, friend, "{\"content\":\"\xff\xfe\",\"unique_id\":\"h9\"}").Error, "not UTF-8")
	many := strings.TrimSuffix(strings.Repeat(element("m", "x")+",", wire.MaxTexts+1), ",")
	require.NotZero(t, send(thread, h.uid, friend, many).Error, "65 texts")

	refused("a recipient who is not in the thread", send(thread, h.uid, h.b.Profile().UID, element("h10", "x"))) // D4

	// A valid text beside an invalid one is stored, with the logged-in user as sender whatever the body says.
	got := send(thread, h.a.Profile().UID, friend, element("bad", "")+","+element("good", "mine"))
	require.Contains(t, got.raw, `"status":1`)
	require.Contains(t, got.raw, `"status":2`)
	require.Equal(t, h.uid, got.From)
	require.Equal(t, h.uid, awaitText(t, f, "mine").Sender)
	require.Equal(t, map[int64]string{1: "mine"}, h.stored(t, thread))
	require.Equal(t, victim, h.stored(t, h.victim.ThreadID))

	// The thread can neither be read nor joined.
	r.send(wire.MsgHistory, fmt.Sprintf(`{"thread_id":%d,"message_id":0}`, h.victim.ThreadID))
	page := r.expect(wire.MsgHistoryRsp)
	require.Equal(t, "[]", string(page.Chats))
	r.send(wire.MsgOpenThread, fmt.Sprintf(`{"uid":%d,"other_id":%d}`, h.a.Profile().UID, h.b.Profile().UID))
	require.NotZero(t, r.expect(wire.MsgOpenThreadRsp).Error)
	r.send(wire.MsgSync, fmt.Sprintf(`{"cursors":[{"thread_id":%d,"seq":0}]}`, h.victim.ThreadID))
	require.NotContains(t, r.expect(wire.MsgSyncRsp).raw, "msg_content")
	r.send(wire.MsgApprove, fmt.Sprintf(`{"fromuid":%d,"touid":%d,"back":"x"}`, h.a.Profile().UID, h.uid))
	require.NotZero(t, r.expect(wire.MsgApproveRsp).Error, "an application that nobody made")
	r.send(wire.MsgApply, fmt.Sprintf(`{"uid":%d,"touid":%d,"applyname":"me"}`, h.uid, h.uid))
	require.NotZero(t, r.expect(wire.MsgApplyRsp).Error, "oneself as a friend")
	for _, query := range []string{"13800138000", "", "99999999999999999999", "-1", "nobody-has-this-name", "2147483648"} {
		r.send(wire.MsgSearch, body(t, map[string]string{"uid": query}))
		require.Equal(t, wire.CodeUIDInvalid, r.expect(wire.MsgSearchRsp).Error, "search for %q", query)
	}
	r.Close()
	c := h.login(t, h.uid, 0)
	p, err := c.SearchUID(ctx, friend)
	require.NoError(t, err)
	require.Equal(t, friend, p.UID)
	exchange(t, h.a, h.b)
}

func TestFloodOfOneClientIsRefused(t *testing.T) {
	h := hostileTo(t, sharedCluster(t))
	friend := h.users(t, 1)
	thread := h.friends(t, h.uid, friend)
	r := h.loginRaw(t, h.uid, 0, native, 0)
	flood := func(from, n int) {
		for i := from; i < from+n; i++ {
			r.send(wire.MsgText, fmt.Sprintf(`{"touid":%d,"thread_id":%d,"text_array":[{"content":"x","unique_id":"flood-%d"}]}`, friend, thread, i))
		}
	}
	const texts = 400
	go flood(0, texts)
	refused, limited := 0, 0
	for range texts {
		got := r.expect(wire.MsgTextRsp)
		if strings.Contains(got.raw, `"status":1`) {
			refused++ // because of its unanswered texts, and then
		}
		if strings.Contains(got.raw, `"code":2003`) {
			limited++ // because of the rate
		}
	}
	require.NotZero(t, limited)
	require.Len(t, h.stored(t, thread), texts-refused, "what was not refused is stored")

	// A client that continues without reading the refusals is disconnected.
	go flood(texts, 100*texts)
	exchange(t, h.a, h.b)
	eventually(t, patience, "the flood's end", func() (bool, string) {
		at := h.online(t, h.uid)
		return len(at) == 0, fmt.Sprint(at)
	})
	exchange(t, h.a, h.b)
}
