package web

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/presence"
	"parley/internal/store"
	"parley/internal/store/mysql"
	"parley/lab/launch"
)

// crowd are clients of a cluster, in pairs of friends who write to each other.
type crowd struct {
	*launch.Cluster
	rdb      *redis.Client
	presence *presence.Presence
	sessions []*client.Session
	wg       sync.WaitGroup

	mu   sync.Mutex
	got  map[int][]string // by client
	sent map[int][]string // to client
}

const (
	crowdFirst = 30_001
	crowdSize  = 40
	crowdAtOne = 26 // of these at the first node
)

// newCrowd logs the clients in, and has the first of each of four pairs write until ctx ends.
func newCrowd(ctx context.Context, t *testing.T, c *launch.Cluster) *crowd {
	t.Helper()
	o := &crowd{Cluster: c, got: map[int][]string{}, sent: map[int][]string{}}
	o.rdb = redis.NewClient(&redis.Options{Addr: c.RedisAddr(), Protocol: 2, DisableIdentity: true})
	o.presence = presence.New(o.rdb, presence.Options{})
	t.Cleanup(func() { o.presence.Close(); o.rdb.Close() })
	st, err := mysql.Open(ctx, c.DSN(), mysql.Options{MaxOpen: 2})
	require.NoError(t, err)
	defer st.Close()
	users := make([]store.NewUser, crowdSize)
	var pairs [][2]int32
	for i := range users {
		name := fmt.Sprint("crowd", i)
		users[i] = store.NewUser{Name: name, Email: name + "@example.com", PasswordHash: "!", Nick: name}
		if i%2 == 1 {
			pairs = append(pairs, [2]int32{int32(crowdFirst + i - 1), int32(crowdFirst + i)})
		}
	}
	require.NoError(t, st.Seed.Users(ctx, crowdFirst, users))
	_, err = st.Seed.Friends(ctx, pairs)
	require.NoError(t, err)
	for i := range crowdSize {
		node := 0
		if i >= crowdAtOne {
			node = 1
		}
		s, err := client.Open(ctx, client.SessionOptions{
			Ticket: o.ticket(ctx, t, int32(crowdFirst+i), c.Chat[node]), Nodes: []string{c.Chat[0].Addr(), c.Chat[1].Addr()},
			BackoffBase: 100 * time.Millisecond, BackoffLimit: time.Second,
		})
		require.NoError(t, err)
		o.sessions = append(o.sessions, s)
		o.wg.Go(func() { o.read(i, s) })
	}
	return o
}

func (o *crowd) ticket(ctx context.Context, t *testing.T, uid int32, n *launch.Node) client.Ticket {
	token := presence.NewToken()
	sum := sha256.Sum256([]byte(token))
	key := fmt.Sprintf("utoken_%d:%s", uid, hex.EncodeToString(sum[:]))
	require.NoError(t, o.rdb.Set(ctx, key, time.Now().UnixMilli(), presence.TokenTTL).Err())
	return client.Ticket{Addr: n.Addr(), UID: uid, Token: token}
}

func (o *crowd) read(i int, s *client.Session) {
	for ev := range s.Events(context.Background()) {
		texts, ok := ev.(client.Texts)
		if !ok {
			continue
		}
		o.mu.Lock()
		for _, m := range texts.Messages {
			if m.Sender != int32(crowdFirst+i) {
				o.got[i] = append(o.got[i], m.Text)
			}
		}
		o.mu.Unlock()
	}
}

// talk has four pairs write until ctx ends, then checks that each text has come once and in order.
func (o *crowd) talk(ctx context.Context, t *testing.T) {
	var wg sync.WaitGroup
	for i := 0; i < 8; i += 2 {
		wg.Go(func() {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				text := fmt.Sprint(i, " says ", n)
				if _, err := o.sessions[i].Post(ctx, client.User(int32(crowdFirst+i+1)), client.NewDraft(text)); err == nil {
					o.mu.Lock()
					o.sent[i+1] = append(o.sent[i+1], text)
					o.mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	for i := 0; i < 8; i += 2 {
		require.NoError(t, o.sessions[i].Flush(t.Context()))
	}
	require.Eventually(t, func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		for i, texts := range o.sent {
			if len(o.got[i]) < len(texts) {
				return false
			}
		}
		return true
	}, time.Minute, 20*time.Millisecond)
	require.Equal(t, o.sent, o.got, "each text once, and in order")
}

func (o *crowd) close() {
	for _, s := range o.sessions {
		s.Close()
	}
	o.wg.Wait()
}

// truth is a chat node as its process, its lease in Redis and its own metrics have it.
type truth struct {
	Running  bool `json:"running"`
	Live     bool `json:"live"`
	Draining bool `json:"draining"`
	Sessions int  `json:"sessions"`
}

var sessionsGauge = regexp.MustCompile(`(?m)^parley_chat_sessions (\d+)$`)

// truth is what all nodes are.
func (o *crowd) truth(ctx context.Context, _ question) (string, error) {
	nodes, err := o.presence.Nodes.Read(ctx)
	if err != nil {
		return "", err
	}
	all := map[string]truth{}
	for _, p := range o.Chat {
		now := truth{Running: p.Running()}
		for _, n := range nodes {
			if n.Name == p.Name() {
				now.Live, now.Draining = n.Live, n.Draining
			}
		}
		if now.Running {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.OpsAddr()+"/metrics", nil)
			if err != nil {
				return "", err
			}
			if rsp, err := http.DefaultClient.Do(r); err == nil {
				page, _ := io.ReadAll(rsp.Body)
				rsp.Body.Close()
				if found := sessionsGauge.FindSubmatch(page); found != nil {
					now.Sessions, _ = strconv.Atoi(string(found[1]))
				}
			}
		}
		all[p.Name()] = now
	}
	text, err := json.Marshal(all)
	return string(text), err
}

// dashboard opens the page of the cluster while a node is killed, brought back and drained, and compares what it shows with the
// truth. Meanwhile people talk.
func dashboard(t *testing.T, c *launch.Cluster) {
	o := newCrowd(t.Context(), t, c)
	defer o.close()
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { o.talk(ctx, t) })
	defer wg.Wait()
	defer stop()
	script(t, c, o.truth, "dash.mjs")
}
