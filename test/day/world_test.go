package day

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"parley/internal/presence"
	"parley/internal/rpc"
	"parley/internal/standalone"
	"parley/internal/store"
	"parley/internal/store/mysql"
	"parley/internal/store/sqlite"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/statusservice"
	"parley/lab/launch"
	"parley/lab/launchtest"
)

func TestMain(m *testing.M) { os.Exit(launchtest.Main(m)) }

// world is a running cluster, with a way to log in without the gate.
type world struct {
	addrs  []string // of the chat nodes
	store  *store.Store
	status statusservice.Client
}

// local starts three nodes in this process.
func local(t *testing.T) *world {
	o := standalone.LocalOptions()
	o.Nodes, o.Demo = 3, false
	c, err := standalone.Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	w := new(world)
	for _, n := range c.Chats() {
		w.addrs = append(w.addrs, n.ClientAddr())
	}
	w.store, err = sqlite.Open(t.Context(), filepath.Join(c.DataDir(), "parley.db"))
	require.NoError(t, err)
	t.Cleanup(func() { w.store.Close() })
	w.open(t, c.StatusAddr(), "")
	return w
}

// real starts three chat nodes as processes, with MariaDB and Redis.
func real(t *testing.T) *world {
	c := launchtest.Start(t, launch.Options{Chat: 3, Status: 1, OnRedis: func(ctx context.Context, addr string) error {
		rdb := redis.NewClient(&redis.Options{Addr: addr, Protocol: 2, DisableIdentity: true})
		defer rdb.Close()
		return presence.SeedGeneration(ctx, rdb)
	}})
	w := new(world)
	for _, n := range c.Chat {
		w.addrs = append(w.addrs, n.Addr())
	}
	var err error
	w.store, err = mysql.Open(t.Context(), c.DSN(), mysql.Options{MaxOpen: 4})
	require.NoError(t, err)
	t.Cleanup(func() { w.store.Close() })
	w.open(t, c.StatusAddr(0), c.Secret())
	// The status node may have looked for nodes just before they came, and then refuses users for a moment.
	require.True(t, eventually(func() bool {
		_, err := w.token(t.Context(), 1)
		return err == nil
	}))
	return w
}

func (w *world) open(t *testing.T, addr, secret string) {
	cl := rpc.NewClient(rpc.ClientConfig{Auth: rpc.NewAuth(secret), Timeout: 10 * time.Second, MaxIdle: 64}, addr)
	t.Cleanup(cl.Close)
	var err error
	w.status, err = statusservice.NewClient("statusnode", cl.Options()...)
	require.NoError(t, err)
}

// token returns a login token for a user, valid on any node.
func (w *world) token(ctx context.Context, uid int32) (string, error) {
	rsp, err := w.status.GetChatServer(ctx, &message.GetChatServerReq{Uid: uid})
	if err == nil && rsp.Error != 0 {
		err = fmt.Errorf("place %d: code %d", uid, rsp.Error)
	}
	if err != nil {
		return "", err
	}
	return rsp.Token, nil
}

// users creates n users with consecutive uids from first on.
func (w *world) users(t *testing.T, first int32, n int) {
	t.Helper()
	list := make([]store.NewUser, n)
	for i := range list {
		name := fmt.Sprintf("day%d", first+int32(i))
		list[i] = store.NewUser{Name: name, Email: name + "@example.com", PasswordHash: "!", Nick: name, Icon: ":/res/head_1.jpg"}
	}
	require.NoError(t, w.store.Seed.Users(t.Context(), first, list))
}

// random returns the random source of the test and prints how to reproduce it.
func random(t *testing.T) (*rand.Rand, uint64) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("PARLEY_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("PARLEY_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0)), seed
}

// amount returns the amount of work: the value of an environment variable, or usual.
func amount(t *testing.T, env string, usual int) int {
	s := os.Getenv(env)
	if s == "" {
		return usual
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err)
	return n
}
