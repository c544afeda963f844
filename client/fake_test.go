package client

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"parley/internal/wire"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(withDemo{m})
}

// DemoGate is the address of the gate that the examples use.
var DemoGate string

// withDemo runs the tests while a fake cluster for the examples runs: alice and bob are friends, with a few texts.
type withDemo struct{ *testing.M }

func (m withDemo) Run() int {
	f, err := listenFake()
	if err != nil {
		panic(err)
	}
	defer f.close()
	f.names = map[int32]string{1: "alice", 2: "bob"}
	f.thread(1, 1, 2)
	f.append(1, 2, "1", "hello alice")
	f.append(1, 1, "2", "hi bob")
	srv := httptest.NewServer(http.HandlerFunc(f.userLogin))
	defer srv.Close()
	DemoGate = srv.URL
	code := m.M.Run()
	http.DefaultClient.CloseIdleConnections()
	return code
}

// fake is a chat node with everything in memory: enough of one to test a client against, and as nasty as a network.
type fake struct {
	t  testing.TB
	ln net.Listener
	wg sync.WaitGroup

	mu      sync.Mutex // guards the following
	conns   map[*fakeConn]struct{}
	logins  []wire.LoginRequest
	threads map[int64]*fakeThread
	stored  map[string]wire.StoredText // by unique id
	when    map[string]int             // the order in which texts were stored
	sinces  int                        // answers to requests with Since
	tickets map[string]bool            // resume tickets that are good
	count   int
	lose    int // logins to leave without an answer
	marks   map[fakeMarkKey]wire.Mark
	marked  int // requests

	// Set before the first connection, or under mu.
	welcome map[string]any                                            // merged into 1006
	refuse  func(wire.LoginRequest) map[string]any                    // a refusal instead of 1006
	hook    func(c *fakeConn, id wire.MsgID, body []byte) (mine bool) // sees every frame after login first
	names   map[int32]string                                          // who are all friends of each other
	slice   bool                                                      // write bytes in random pieces
}

type fakeMarkKey struct {
	thread int64
	uid    int32
}

type fakeThread struct {
	id   int64
	a, b int32
	msgs []wire.StoredText

	name    string
	members map[int32]*fakeMember // nil for a private thread
}

// fakeMember is a member of a group, or a former one.
type fakeMember struct {
	role       int
	from, left int64 // what it may read; left 0: all from there on
}

// reads reports whether a user may read a message.
func (th *fakeThread) reads(uid int32, id int64) bool {
	if th.members == nil {
		return th.a == uid || th.b == uid
	}
	m := th.members[uid]
	return m != nil && id >= m.from && (m.left == 0 || id <= m.left)
}

// bounds returns the first and the last message that a user may read, and false for a stranger.
func (th *fakeThread) bounds(uid int32) (first, last int64, ok bool) {
	last = int64(len(th.msgs))
	if th.members == nil {
		return 1, last, th.a == uid || th.b == uid
	}
	m := th.members[uid]
	if m == nil {
		return 0, 0, false
	}
	if m.left > 0 {
		last = m.left
	}
	return m.from, last, true
}

type fakeConn struct {
	f   *fake
	nc  net.Conn
	uid int32

	mu    sync.Mutex
	after int // cut the connection after so many more bytes; negative: never
}

func newFake(t testing.TB) *fake {
	t.Helper()
	f, err := listenFake()
	require.NoError(t, err)
	f.t = t
	t.Cleanup(f.close)
	return f
}

func listenFake() (*fake, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f := &fake{
		ln: ln, conns: make(map[*fakeConn]struct{}), threads: make(map[int64]*fakeThread),
		stored: make(map[string]wire.StoredText), tickets: make(map[string]bool), welcome: make(map[string]any),
	}
	f.wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			f.wg.Go(func() { f.serve(nc) })
		}
	})
	return f, nil
}

func (f *fake) close() {
	f.ln.Close()
	f.dropAll()
	f.wg.Wait()
}

func (f *fake) addr() string { return f.ln.Addr().String() }

func (f *fake) ticket(uid int32) Ticket { return Ticket{Addr: f.addr(), UID: uid, Token: "good"} }

// dial connects a user and closes the connection at the end of the test.
func (f *fake) dial(uid int32, o Options) *Conn {
	f.t.Helper()
	c, err := Dial(f.t.Context(), f.ticket(uid), o)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { c.Close(); <-c.Done() })
	return c
}

func (f *fake) serve(nc net.Conn) {
	c := &fakeConn{f: f, nc: nc, after: -1}
	defer func() {
		nc.Close()
		f.mu.Lock()
		delete(f.conns, c)
		f.mu.Unlock()
	}()
	rd := bufio.NewReader(nc)
	id, body, err := readFake(rd)
	if err != nil || id != wire.MsgLogin {
		return
	}
	req, err := wire.DecodeLogin(body)
	if err != nil {
		return
	}
	if !f.login(c, *req) {
		return
	}
	for {
		id, body, err := readFake(rd)
		if err != nil {
			return
		}
		f.mu.Lock()
		hook := f.hook
		f.mu.Unlock()
		if hook == nil || !hook(c, id, body) {
			c.handle(id, body)
		}
	}
}

func readFake(rd *bufio.Reader) (wire.MsgID, []byte, error) {
	head := make([]byte, wire.HeaderLen)
	if _, err := io.ReadFull(rd, head); err != nil {
		return 0, nil, err
	}
	id, n := wire.ParseHeader(head)
	body := make([]byte, n)
	_, err := io.ReadFull(rd, body)
	return id, body, err
}

func (f *fake) login(c *fakeConn, req wire.LoginRequest) bool {
	f.mu.Lock()
	f.logins = append(f.logins, req)
	if f.lose > 0 {
		f.lose--
		f.mu.Unlock()
		return false
	}
	var no map[string]any
	switch {
	case f.refuse != nil:
		no = f.refuse(req)
	case req.Resume != "" && !f.tickets[req.Resume], req.Resume == "" && req.Token != "good":
		no = map[string]any{"error": wire.CodeTokenInvalid}
	}
	if no != nil {
		f.mu.Unlock()
		c.send(wire.MsgLoginRsp, no)
		return false
	}
	f.count++
	resume := fmt.Sprintf("resume-%d", f.count)
	f.tickets[resume] = true
	reply := map[string]any{
		"error": 0, "uid": req.UID, "name": fmt.Sprintf("user%d", req.UID), "nick": "nick", "icon": "", "sex": 0, "desc": "",
		"friend_list": []any{}, "apply_list": []any{}, "caps": req.Caps, "resume": resume, "window": max(req.Window, 64),
		"heartbeat_s": 30, "node": "fake", "sid": strconv.Itoa(f.count),
	}
	if f.names != nil {
		var friends []wire.Friend
		for uid, name := range f.names {
			if uid != req.UID {
				friends = append(friends, wire.Friend{Profile: wire.Profile{UID: uid, Name: name}})
			}
		}
		reply["name"], reply["friend_list"] = f.names[req.UID], friends
	}
	for k, v := range f.welcome {
		reply[k] = v
	}
	c.uid = req.UID
	f.conns[c] = struct{}{}
	f.mu.Unlock()
	c.send(wire.MsgLoginRsp, reply)
	return true
}

// send writes a frame, in pieces if the fake is sliced, and cuts the connection where it is told to.
func (c *fakeConn) send(id wire.MsgID, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	frame, err := wire.AppendFrame(nil, id, body)
	if err != nil {
		panic(err)
	}
	c.write(frame)
}

func (c *fakeConn) write(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(b) > 0 {
		n := len(b)
		if c.f.slice {
			n = 1 + rand.IntN(min(n, 7))
		}
		if c.after >= 0 && n > c.after {
			c.nc.Write(b[:c.after])
			c.nc.Close()
			return
		}
		if c.after >= 0 {
			c.after -= n
		}
		if _, err := c.nc.Write(b[:n]); err != nil {
			return
		}
		b = b[n:]
	}
}

// cut ends the connection after n more bytes to the client.
func (c *fakeConn) cut(n int) {
	c.mu.Lock()
	c.after = n
	c.mu.Unlock()
}

func (f *fake) dropAll() {
	for _, c := range f.living(0) {
		c.nc.Close()
	}
}

// living returns the connections of a user, or of all if uid is 0.
func (f *fake) living(uid int32) []*fakeConn {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []*fakeConn
	for c := range f.conns {
		if uid == 0 || c.uid == uid {
			out = append(out, c)
		}
	}
	return out
}

func (f *fake) thread(id int64, a, b int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.threads[id] = &fakeThread{id: id, a: a, b: b}
}

// append stores a text, once, and returns it.
func (f *fake) append(thread int64, from int32, unique, content string) wire.StoredText {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m, ok := f.stored[unique]; ok {
		return m
	}
	th := f.threads[thread]
	m := wire.StoredText{
		Sender: from, MsgID: int64(len(th.msgs) + 1), ThreadID: thread, UniqueID: unique, Content: content, Status: 2,
		CreatedMS: 1_700_000_000_000 + int64(len(th.msgs)),
	}
	th.msgs = append(th.msgs, m)
	f.stored[unique] = m
	if f.when == nil {
		f.when = make(map[string]int)
	}
	f.when[unique] = len(f.when)
	return m
}

// say stores a text of from in the thread and pushes it to the other one.
func (f *fake) say(thread int64, from int32, content string) wire.StoredText {
	m := f.append(thread, from, fmt.Sprintf("say-%d-%d-%s", thread, from, content), content)
	f.push(m)
	return m
}

func (f *fake) push(ms ...wire.StoredText) {
	f.mu.Lock()
	th := f.threads[ms[0].ThreadID]
	f.mu.Unlock()
	if th.members != nil {
		f.fanOut(th, ms)
		return
	}
	to := th.a
	if to == ms[0].Sender {
		to = th.b
	}
	for _, c := range f.living(to) {
		c.send(wire.MsgTextPush, textFrame(ms...))
	}
}

func textFrame(ms ...wire.StoredText) map[string]any {
	var datas []any
	for _, m := range ms {
		datas = append(datas, map[string]any{
			"message_id": m.MsgID, "unique_id": m.UniqueID, "content": m.Content, "status": 2, "created_ms": m.CreatedMS,
		})
	}
	return map[string]any{"error": 0, "fromuid": ms[0].Sender, "thread_id": ms[0].ThreadID, "chat_datas": datas}
}

// handle answers as a node does.
func (c *fakeConn) handle(id wire.MsgID, body []byte) {
	switch id {
	case wire.MsgHeartbeat:
		c.send(wire.MsgHeartbeatRsp, map[string]any{"error": 0})
	case wire.MsgText:
		req, err := wire.DecodeText(body)
		if err != nil {
			panic(err)
		}
		c.answerTexts(req)
	case wire.MsgThreads:
		c.f.mu.Lock()
		reply := wire.ThreadsReply{UID: c.uid}
		for _, th := range c.f.threads {
			first, last, ok := th.bounds(c.uid)
			switch {
			case !ok:
			case th.members == nil:
				reply.Threads = append(reply.Threads, wire.Thread{ID: th.id, Type: "private", User1: th.a, User2: th.b, LastSeq: last})
			default:
				m := th.members[c.uid]
				reply.Threads = append(reply.Threads, wire.Thread{
					ID: th.id, Type: "group", LastSeq: last, Name: th.name, Role: m.role, Members: len(th.members), FirstID: first, Left: m.left,
				})
			}
		}
		c.f.mu.Unlock()
		slices.SortFunc(reply.Threads, func(a, b wire.Thread) int { return int(a.ID - b.ID) })
		c.send(wire.MsgThreadsRsp, reply)
	case wire.MsgMark:
		req, err := wire.DecodeMark(body)
		if err != nil {
			panic(err)
		}
		key := fakeMarkKey{req.ThreadID, c.uid}
		c.f.mu.Lock()
		m := c.f.marks[key]
		m.UID, m.Read, m.Recv = c.uid, max(m.Read, req.Read), max(m.Recv, req.Recv, m.Read, req.Read)
		if c.f.marks == nil {
			c.f.marks = make(map[fakeMarkKey]wire.Mark)
		}
		c.f.marks[key] = m
		c.f.marked++
		c.f.mu.Unlock()
		c.send(wire.MsgMarkRsp, wire.MarkReply{ThreadID: req.ThreadID, Read: m.Read, Recv: m.Recv})
	case wire.MsgOpenThread:
		var req wire.OpenThreadRequest
		if err := wire.Decode(body, &req); err != nil {
			panic(err)
		}
		if thread := c.f.between(c.uid, req.OtherUID); thread != 0 {
			c.send(wire.MsgOpenThreadRsp, wire.OpenThreadReply{UID: c.uid, OtherUID: req.OtherUID, ThreadID: thread})
		} else {
			c.send(wire.MsgOpenThreadRsp, map[string]any{"error": wire.CodeCreateChat})
		}
	case wire.MsgHistory:
		var req wire.HistoryRequest
		if err := wire.Decode(body, &req); err != nil {
			panic(err)
		}
		c.send(wire.MsgHistoryRsp, c.f.history(c.uid, req.ThreadID, req.After, 3))
	case wire.MsgSync:
		req, err := wire.DecodeSync(body)
		if err != nil {
			panic(err)
		}
		c.send(wire.MsgSyncRsp, c.f.sync(c.uid, req))
	}
}

// onTexts has take see requests with texts first. It reports whether it answers them.
func (f *fake) onTexts(take func(c *fakeConn, req *wire.TextRequest) (mine bool)) {
	f.hook = func(c *fakeConn, id wire.MsgID, body []byte) bool {
		if id != wire.MsgText {
			return false
		}
		req, err := wire.DecodeText(body)
		if err != nil {
			panic(err)
		}
		return take(c, req)
	}
}

func (c *fakeConn) answerTexts(req *wire.TextRequest) {
	thread := req.ThreadID
	if thread == 0 {
		thread = c.f.between(c.uid, req.ToUID)
	}
	var stored []wire.StoredText
	for _, t := range req.Texts {
		stored = append(stored, c.f.append(thread, c.uid, t.UniqueID, t.Content))
	}
	c.send(wire.MsgTextRsp, textFrame(stored...))
	c.f.push(stored...)
}

// between returns the thread of two users, or 0.
func (f *fake) between(a, b int32) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, th := range f.threads {
		if th.a == a && th.b == b || th.b == a && th.a == b {
			return th.id
		}
	}
	return 0
}

func (f *fake) history(uid int32, thread, after int64, limit int) wire.HistoryReply {
	f.mu.Lock()
	defer f.mu.Unlock()
	reply := wire.HistoryReply{ThreadID: thread, LastID: after}
	if th := f.threads[thread]; th != nil {
		for _, m := range th.msgs {
			if m.MsgID <= after || !th.reads(uid, m.MsgID) {
				continue
			}
			if len(reply.Chats) == limit {
				reply.LoadMore = true
				break
			}
			reply.Chats = append(reply.Chats, m)
			reply.LastID = m.MsgID
		}
	}
	return reply
}

// last returns the number of the last text of a thread that a user may read.
func (f *fake) last(uid int32, thread int64) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, last, _ := f.threads[thread].bounds(uid)
	return last
}

// since answers a request with Since, which is how many texts there were. Like the server it names threads that were the last
// to change before that too, and leaves out what came before.
func (f *fake) since(uid int32, req *wire.SyncRequest) wire.SyncReply {
	var reply wire.SyncReply
	from, err := strconv.Atoi(req.Since)
	if err != nil {
		panic(err)
	}
	for _, c := range req.Cursors {
		if f.last(uid, c.ThreadID) < c.Seq {
			return reply
		}
	}
	f.mu.Lock()
	f.sinces++
	reply.Since = fmt.Sprint(len(f.when))
	start := make(map[int64]int64)
	for _, th := range f.threads {
		_, _, ok := th.bounds(uid)
		for _, m := range th.msgs {
			if when, known := f.when[m.UniqueID]; ok && known && start[th.id] == 0 && when >= from-1 {
				start[th.id] = m.MsgID
			}
		}
	}
	f.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(start)) {
		reply.Threads = append(reply.Threads, f.history(uid, id, start[id]-1, 4))
	}
	return reply
}

func (f *fake) sync(uid int32, req *wire.SyncRequest) wire.SyncReply {
	if req.Since != "" {
		return f.since(uid, req)
	}
	var reply wire.SyncReply
	if req.WantSince {
		f.mu.Lock()
		reply.Since = fmt.Sprint(len(f.when))
		f.mu.Unlock()
	}
	cursors := make(map[int64]int64)
	for _, c := range req.Cursors {
		cursors[c.ThreadID] = c.Seq
	}
	f.mu.Lock()
	var ids []int64
	for _, th := range f.threads {
		_, has := cursors[th.id]
		if _, _, ok := th.bounds(uid); ok && (has || req.All) {
			ids = append(ids, th.id)
		}
	}
	f.mu.Unlock()
	slices.Sort(ids)
	for _, id := range ids {
		if last := f.last(uid, id); last < cursors[id] {
			reply.Threads = append(reply.Threads, wire.HistoryReply{ThreadID: id, LastID: last})
			continue
		}
		if page := f.history(uid, id, cursors[id], 4); len(page.Chats) > 0 {
			reply.Threads = append(reply.Threads, page)
			reply.LoadMore = reply.LoadMore || page.LoadMore
		}
	}
	return reply
}

// userLogin is a gate's /user_login: whoever is not bob is user 1.
func (f *fake) userLogin(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Email string `json:"email"`
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		panic(err)
	}
	uid := 1
	if req.Email == "bob@example.com" {
		uid = 2
	}
	host, port, err := net.SplitHostPort(f.addr())
	if err != nil {
		panic(err)
	}
	// A client that is gone already needs no answer.
	_ = json.NewEncoder(w).Encode(map[string]any{"error": 0, "uid": uid, "token": "good", "host": host, "port": port})
}

// gate serves userLogin and counts the logins.
func (f *fake) gate() (g *Gate, logins func() int) {
	var n atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		f.userLogin(w, r)
	}))
	f.t.Cleanup(srv.Close)
	g, err := NewGate(srv.URL)
	require.NoError(f.t, err)
	g.HTTP = srv.Client()
	return g, func() int { return int(n.Load()) }
}

// eventually waits until ok returns true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: ", what)
		}
	}
}
