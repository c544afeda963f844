package e2e

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // to read the store without the nodes' code
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/presence"
	"parley/internal/rpc"
	"parley/internal/store"
	"parley/internal/store/mysql"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/statusservice"
	"parley/lab/launch"
)

// lease is how long a killed node counts as alive. Assertions based on it allow for slack.
const (
	lease = presence.DefaultLease
	slack = 3
)

// patience bounds waits without a promised time, also on a busy machine.
const patience = 90 * time.Second

// world is a cluster, with the means to create users and to inspect the stores.
type world struct {
	*launch.Cluster
	db       *sql.DB
	store    *store.Store
	rdb      *redis.Client
	presence *presence.Presence
	auth     *rpc.Auth
	status   []statusservice.Client // one for each status node
	gate     *client.Gate           // the first gate; nil without gates
	closers  []func()
}

// seedGeneration makes an empty Redis look as if it had been running for a while; otherwise logins wait some seconds.
func seedGeneration(ctx context.Context, addr string) error {
	rdb := redis.NewClient(redisOptions(addr))
	defer rdb.Close()
	return presence.SeedGeneration(ctx, rdb)
}

func redisOptions(addr string) *redis.Options {
	return &redis.Options{Addr: addr, Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true, MaxRetries: -1}
}

// newWorld opens the stores of a running cluster.
func newWorld(ctx context.Context, c *launch.Cluster) (*world, error) {
	w := &world{Cluster: c, auth: rpc.NewAuth(c.Secret())}
	var err error
	if w.store, err = mysql.Open(ctx, c.DSN(), mysql.Options{MaxOpen: 4}); err != nil {
		return nil, err
	}
	if w.db, err = sql.Open("mysql", c.DSN()); err != nil {
		return nil, err
	}
	w.db.SetMaxOpenConns(4)
	w.rdb = redis.NewClient(redisOptions(c.RedisAddr()))
	w.presence = presence.New(w.rdb, presence.Options{})
	for _, n := range c.Status {
		cl := rpc.NewClient(rpc.ClientConfig{Auth: w.auth, Timeout: patience, ConnectTimeout: patience, MaxIdle: 64}, n.Addr())
		w.closers = append(w.closers, cl.Close)
		s, err := statusservice.NewClient("statusnode", cl.Options()...)
		if err != nil {
			return nil, err
		}
		w.status = append(w.status, s)
	}
	if len(c.Gate) > 0 {
		if w.gate, err = client.NewGate(c.GateURL()); err != nil {
			return nil, err
		}
	}
	return w, w.awaitOpen(ctx)
}

// awaitOpen waits until each status node knows all chat nodes.
func (w *world) awaitOpen(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	want := fmt.Sprintf("parley_status_nodes{state=\"open\"} %d\n", len(w.Chat))
	for _, n := range w.Status {
		for {
			page, err := httpText(ctx, "http://"+n.OpsAddr()+"/metrics")
			if err != nil {
				return fmt.Errorf("%s: %w", n.Name(), err)
			}
			if strings.Contains(page, want) {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

func (w *world) closeStores() {
	for _, f := range w.closers {
		f()
	}
	w.presence.Close()
	_ = w.rdb.Close()   // its server is stopped next
	_ = w.db.Close()    // the same
	_ = w.store.Close() // the same
}

// nextUID gives each test users of its own. It starts far above the uids of registrations in a new cluster, and
// leaves room for users who register after users were created in the store.
var nextUID atomic.Int32

func init() { nextUID.Store(20_000) }

// users creates n users with consecutive uids in the store, and returns the first uid. Their passwords are
// password(uid), stored in llfcchat's form, which saves hashing for users who never log in.
func (w *world) users(t testing.TB, n int) int32 {
	t.Helper()
	first := nextUID.Add(int32(n)+200) - int32(n) - 200
	list := make([]store.NewUser, n)
	for i := range list {
		uid := first + int32(i)
		list[i] = store.NewUser{
			Name: fmt.Sprintf("user%d", uid), Email: email(uid), PasswordHash: transform(password(uid)), Nick: fmt.Sprintf("User %d", uid),
		}
	}
	require.NoError(t, w.store.Seed.Users(t.Context(), first, list))
	return first
}

func email(uid int32) string    { return fmt.Sprintf("user%d@e2e.example", uid) }
func password(uid int32) string { return fmt.Sprintf("pass%d", uid) }

// transform applies a client's transformation to a password of ASCII letters.
func transform(s string) string {
	b := []byte(s)
	for i := range b {
		b[i] ^= byte(len(b) % 255)
	}
	return string(b)
}

// friends makes a and b friends and returns their thread.
func (w *world) friends(t testing.TB, a, b int32) int64 {
	t.Helper()
	ids, err := w.store.Seed.Friends(t.Context(), [][2]int32{{a, b}})
	require.NoError(t, err)
	return ids[0]
}

// pair creates two users who are friends.
func (w *world) pair(t testing.TB) (a, b int32, thread int64) {
	t.Helper()
	a = w.users(t, 2)
	return a, a + 1, w.friends(t, a, a+1)
}

// ticket lets a user log in on a chat node of the test's choice. It puts the token into Redis as a status node would,
// but without a placement, so that tests do not affect each other's loads.
func (w *world) ticket(t testing.TB, uid int32, node int) client.Ticket {
	t.Helper()
	token := presence.NewToken()
	sum := sha256.Sum256([]byte(token))
	key := fmt.Sprintf("utoken_%d:%s", uid, hex.EncodeToString(sum[:]))
	now, err := w.rdb.Time(t.Context()).Result()
	require.NoError(t, err)
	require.NoError(t, w.rdb.Set(t.Context(), key, now.UnixMilli(), presence.TokenTTL).Err())
	return client.Ticket{Addr: w.Chat[node].Addr(), UID: uid, Token: token}
}

// place asks a status node where a user should log in.
func (w *world) place(ctx context.Context, status int, uid int32) (node string, ticket client.Ticket, err error) {
	rsp, err := w.status[status].GetChatServer(ctx, &message.GetChatServerReq{Uid: uid})
	if err != nil {
		return "", client.Ticket{}, err
	}
	if rsp.Error != 0 {
		return "", client.Ticket{}, fmt.Errorf("GetChatServer answers %d", rsp.Error)
	}
	return rsp.Node, client.Ticket{Addr: rsp.Host + ":" + rsp.Port, UID: uid, Token: rsp.Token}, nil
}

// login connects a user to a chat node; the connection is closed when the test ends.
func (w *world) login(t testing.TB, uid int32, node int, o ...client.Options) *client.Conn {
	t.Helper()
	c, err := w.tryLogin(t, uid, node, o...)
	require.NoError(t, err)
	return c
}

func (w *world) tryLogin(t testing.TB, uid int32, node int, o ...client.Options) (*client.Conn, error) {
	t.Helper()
	var opts client.Options
	if len(o) > 0 {
		opts = o[0]
	}
	return enter(t, w.ticket(t, uid, node), opts)
}

// enter logs in with a ticket, and waits until pushes find the session.
func enter(t testing.TB, ticket client.Ticket, o client.Options) (*client.Conn, error) {
	t.Helper()
	c, err := client.Dial(t.Context(), ticket, o)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close(); <-c.Done() })
	if err := live(t.Context(), c); err != nil {
		return nil, err
	}
	return c, nil
}

// live waits until pushes find a session. A session becomes live after its 1006, and answers requests only then.
func live(ctx context.Context, c *client.Conn) error {
	_, err := c.SearchUID(ctx, c.Profile().UID)
	return err
}

// say sends a text, and repeats it if it is refused because of the rate: a user who comes from another node starts
// with an empty bucket.
func say(ctx context.Context, c *client.Conn, to client.To, d client.Draft) (client.Sent, error) {
	for {
		sent, err := c.SendTexts(ctx, to, d)
		if err != nil {
			return client.Sent{}, err
		}
		if client.CodeOf(sent[0].Err) != client.CodeRateLimited {
			return sent[0], sent[0].Err
		}
		select {
		case <-time.After(max(client.RetryAfter(sent[0].Err), 20*time.Millisecond)):
		case <-ctx.Done():
			return sent[0], sent[0].Err
		}
	}
}

// counts returns the last reported load of each chat node.
func (w *world) counts(t testing.TB) map[string]int {
	t.Helper()
	m, err := w.rdb.HGetAll(t.Context(), "logincount").Result()
	require.NoError(t, err)
	out := make(map[string]int)
	for name, n := range m {
		out[name], err = strconv.Atoi(n)
		require.NoError(t, err)
	}
	return out
}

// awaitCount waits until a node reports n sessions.
func (w *world) awaitCount(t testing.TB, node, n int, within time.Duration) {
	t.Helper()
	name := w.Chat[node].Name()
	eventually(t, within, fmt.Sprintf("%s to report %d sessions", name, n), func() (bool, string) {
		got := w.counts(t)
		return got[name] == n, fmt.Sprint(got)
	})
}

// quiet waits until no user is logged in, and ends the reservations of earlier tests, which would last for some seconds more.
func (w *world) quiet(t testing.TB) {
	t.Helper()
	eventually(t, patience, "a cluster without sessions", func() (bool, string) {
		for _, n := range w.Chat { // what it reports may be a second old
			if sessions := metric(t, n, "parley_chat_sessions"); sessions != 0 {
				return false, fmt.Sprintf("%s has %v", n.Name(), sessions)
			}
		}
		n := w.counts(t)
		for _, sessions := range n {
			if sessions != 0 {
				return false, fmt.Sprintf("reported are %v", n)
			}
		}
		return true, ""
	})
	for name := range w.counts(t) {
		require.NoError(t, w.rdb.Del(t.Context(), "reserve_{logincount}_"+name).Err())
	}
}

// online returns a user's sessions as a node sees them: it ignores entries whose node has no lease, or one with
// another boot id.
func (w *world) online(t testing.TB, uid int32) []presence.Location {
	t.Helper()
	found, err := w.presence.Sessions.Locate(t.Context(), []int32{uid})
	require.NoError(t, err)
	_, err = w.presence.Nodes.Read(t.Context())
	require.NoError(t, err)
	var live []presence.Location
	for _, l := range found[0] {
		if w.presence.Nodes.View().Alive(l.Node, l.Boot) {
			live = append(live, l)
		}
	}
	return live
}

// boot returns the boot id in a node's lease, or "".
func (w *world) boot(t testing.TB, node int) string {
	t.Helper()
	nodes, err := w.presence.Nodes.Read(t.Context())
	require.NoError(t, err)
	for _, n := range nodes {
		if n.Name == w.Chat[node].Name() && n.Live {
			return n.Boot
		}
	}
	return ""
}

// stored returns the contents of a thread by number, read without the nodes' code.
func (w *world) stored(t testing.TB, thread int64) map[int64]string {
	t.Helper()
	rows, err := w.db.QueryContext(t.Context(), "SELECT seq, content FROM chat_message WHERE thread_id = ?", thread)
	require.NoError(t, err)
	defer rows.Close()
	out := make(map[int64]string)
	for rows.Next() {
		var seq int64
		var content string
		require.NoError(t, rows.Scan(&seq, &content))
		out[seq] = content
	}
	require.NoError(t, rows.Err())
	return out
}

// metric reads one value without labels from a node's metrics.
func metric(t testing.TB, n *launch.Node, name string) float64 {
	t.Helper()
	v, ok := metrics(t, n)[name]
	require.True(t, ok, "%s has no metric %s", n.Name(), name)
	return v
}

func metrics(t testing.TB, n *launch.Node) map[string]float64 {
	t.Helper()
	out := make(map[string]float64)
	for line := range strings.Lines(httpGet(t, "http://"+n.OpsAddr()+"/metrics")) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil && !strings.HasPrefix(line, "#") {
			out[name] = v
		}
	}
	return out
}

var httpClient = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func httpGet(t testing.TB, url string) string {
	t.Helper()
	page, err := httpText(t.Context(), url)
	require.NoError(t, err)
	return page
}

func httpText(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	rsp, err := httpClient.Do(req)
	if err != nil {
		return "", err
	}
	defer rsp.Body.Close()
	b, err := io.ReadAll(rsp.Body)
	return string(b), err
}

// eventually waits until f returns true. why is its last explanation, for the failure message.
func eventually(t testing.TB, within time.Duration, what string, f func() (ok bool, why string)) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		ok, why := f()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s; last: %s", within, what, why)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// awaitText reads events until a text with the given content arrives, and returns it.
func awaitText(t testing.TB, c *client.Conn, content string) client.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		ev, err := c.Next(ctx)
		require.NoError(t, err, "waiting for the text %q", content)
		if texts, ok := ev.(client.Texts); ok {
			for _, m := range texts.Messages {
				if m.Text == content {
					return m
				}
			}
		}
	}
}

// awaitEnd waits until a connection has ended, and returns the reason.
func awaitEnd(t testing.TB, c *client.Conn, within time.Duration) error {
	t.Helper()
	select {
	case <-c.Done():
		return c.Err()
	case <-time.After(within):
		t.Fatalf("the connection of user %d still lives after %v", c.Profile().UID, within)
		return nil
	}
}

// exchange verifies that two connections work: it sends a text each way, which must be acknowledged and pushed.
func exchange(t testing.TB, a, b *client.Conn) {
	t.Helper()
	for _, p := range [][2]*client.Conn{{a, b}, {b, a}} {
		text := client.NewDraft("").UniqueID
		_, err := say(t.Context(), p[0], client.User(p[1].Profile().UID), client.NewDraft(text))
		require.NoError(t, err)
		m := awaitText(t, p[1], text)
		require.Equal(t, p[0].Profile().UID, m.Sender)
	}
}
