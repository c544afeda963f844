package gate

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/presence"
	"parley/internal/rpc"
	"parley/internal/wire"
	"parley/kitex_gen/message/chatservice"
)

func TestRegisterStoresWhatUpstreamStores(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	uid := f.newUser("Alice", "Alice@Example.com", "gde745")
	p, err := f.store.Users.Profile(t.Context(), uid)
	require.NoError(t, err)
	require.Equal(t, "Alice", p.Name)
	require.Equal(t, "Alice", p.Nick)
	require.Equal(t, ":/res/head_1.jpg", p.Icon)
	require.Equal(t, wire.CodeOK, f.login("aLICE@example.com", "gde745").Error, "addresses know no case")
}

func TestRegisterOfOneNameAtOnceMakesOneUser(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const n = 8
	bodies := make([]map[string]any, n)
	for i := range bodies {
		email := fmt.Sprintf("u%d@example.com", i)
		bodies[i] = registration("same", email, "abcdef", f.code(email))
	}
	codes := make([]wire.Code, n)
	var wg sync.WaitGroup
	for i := range bodies {
		wg.Go(func() { codes[i] = f.call("/user_register", bodies[i]).Error })
	}
	wg.Wait()
	count := map[wire.Code]int{}
	for _, c := range codes {
		count[c]++
	}
	require.Equal(t, map[wire.Code]int{wire.CodeOK: 1, wire.CodeUserExist: n - 1}, count)
}

func TestOneCodeAtOnceRegistersOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	code := f.code("a@example.com")
	codes := make([]wire.Code, 5)
	var wg sync.WaitGroup
	for i := range codes {
		wg.Go(func() {
			codes[i] = f.call("/user_register", registration(fmt.Sprintf("u%d", i), "a@example.com", "abcdef", code)).Error
		})
	}
	wg.Wait()
	var ok int
	for _, c := range codes {
		if c == wire.CodeOK {
			ok++
		} else {
			require.Equal(t, wire.CodeVarifyExpired, c)
		}
	}
	require.Equal(t, 1, ok)
}

func TestFiveTriesACode(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	code := f.code("a@example.com")
	try := func(code string) wire.Code {
		return f.call("/user_register", registration("alice", "a@example.com", "abcdef", code)).Error
	}
	for i := range codeTries {
		require.Equal(t, wire.CodeVarify, try("wrong"), "try %d", i+1)
	}
	require.Equal(t, wire.CodeVarifyExpired, try(code), "the right one comes too late")
	require.Equal(t, wire.CodeOK, try(f.code("a@example.com")), "a new code has new tries")
}

func TestFiveTriesACodeAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.code("a@example.com")
	count := map[wire.Code]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			c := f.call("/user_register", registration("alice", "a@example.com", "abcdef", "wrong")).Error
			mu.Lock()
			defer mu.Unlock()
			count[c]++
		})
	}
	wg.Wait()
	require.Equal(t, map[wire.Code]int{wire.CodeVarify: codeTries, wire.CodeVarifyExpired: 40 - codeTries}, count)
}

func TestACodeAnswersFewQuestions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.newUser("taken", "t@example.com", "abcdef")
	code := f.code("a@example.com")
	for i := range codeTries {
		require.Equal(t, wire.CodeUserExist, f.call("/user_register", registration("taken", "a@example.com", "abcdef", code)).Error, "try %d", i+1)
	}
	require.Equal(t, wire.CodeVarifyExpired, f.call("/user_register", registration("free", "a@example.com", "abcdef", code)).Error)
}

func TestCodesEndAfterTenMinutes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	code := f.code("a@example.com")
	f.mr.FastForward(codeTTL - time.Second)
	require.Equal(t, wire.CodeVarify, f.call("/user_register", registration("alice", "a@example.com", "abcdef", "x")).Error)
	f.mr.FastForward(2 * time.Second)
	require.Equal(t, wire.CodeVarifyExpired, f.call("/user_register", registration("alice", "a@example.com", "abcdef", code)).Error)
	require.False(t, f.mr.Exists("codetry_a@example.com"), "the tries end with the code")
}

func TestCodesAreStoredSealed(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.Cluster.Secret = "0123456789abcdef" })
	code := f.code("A@example.com")
	require.Regexp(t, `^[0-9]{6}$`, code)
	stored, err := f.mr.Get("code_a@example.com")
	require.NoError(t, err)
	require.Regexp(t, `^v1:[0-9a-f]{64}$`, stored)
	require.NotContains(t, stored, code)
	require.Equal(t, codeTTL, f.mr.TTL("code_a@example.com"))
	// Neither the stored text nor an old code in llfcchat's form is valid as a code.
	require.Equal(t, wire.CodeVarify, f.call("/user_register", registration("alice", "a@example.com", "abcdef", stored)).Error)
	require.NoError(t, f.mr.Set("code_b@example.com", "ab12"))
	require.Equal(t, wire.CodeVarify, f.call("/user_register", registration("bob", "b@example.com", "abcdef", "ab12")).Error)
	require.Equal(t, codeTTL, f.mr.TTL("code_b@example.com"), "an immortal code is given an end")
}

func TestCodesWorkWithClusterKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.Redis.Cluster = true })
	f.newUser("alice", "a@example.com", "abcdef")
	code := f.code("b@example.com")
	require.Equal(t, wire.CodeVarify, f.call("/user_register", registration("bob", "b@example.com", "abcdef", "wrong")).Error)
	require.True(t, f.mr.Exists("codetry_{code_b@example.com}"))
	require.Equal(t, wire.CodeOK, f.call("/user_register", registration("bob", "b@example.com", "abcdef", code)).Error)
	require.False(t, f.mr.Exists("codetry_{code_b@example.com}"))
}

func TestBusyHashGivesTheCodeBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.Hash.Parallel, c.Hash.Waiting = 1, 0 })
	code := f.code("a@example.com")
	require.NoError(t, f.accounts.hasher.slots.Take(t.Context(), 0))
	for range codeTries + 1 {
		r := f.call("/user_register", registration("alice", "a@example.com", "abcdef", code))
		require.Equal(t, wire.CodeBusy, r.Error)
		require.Positive(t, r.RetryMS)
	}
	f.accounts.hasher.slots.Give()
	require.Equal(t, wire.CodeOK, f.call("/user_register", registration("alice", "a@example.com", "abcdef", code)).Error)
}

func TestStoreAway(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	uid := f.newUser("alice", "a@example.com", "abcdef")
	require.Positive(t, uid)
	codeA, codeB := f.code("a@example.com"), f.code("b@example.com")
	require.NoError(t, f.store.Close())
	require.Equal(t, wire.CodeUnavailable, f.login("a@example.com", "abcdef").Error)
	require.Equal(t, wire.CodeUnavailable, f.call("/user_register", registration("bob", "b@example.com", "abcdef", codeB)).Error)
	require.Equal(t, wire.CodePasswdUpFailed, f.call("/reset_pwd",
		map[string]any{"user": "alice", "email": "a@example.com", "passwd": "newpass", "varifycode": codeA}).Error)
	require.True(t, f.mr.Exists("code_a@example.com"), "the code is good for another try")
}

func TestRedisAway(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.newUser("alice", "a@example.com", "abcdef")
	f.mr.Close()
	require.Equal(t, wire.CodeRPC, f.login("a@example.com", "abcdef").Error)
	require.Equal(t, codeStoreFailed, f.call("/get_varifycode", map[string]any{"email": "b@example.com"}).Error)
	require.Equal(t, wire.CodeUnavailable, f.call("/user_register", registration("bob", "b@example.com", "abcdef", "123456")).Error)
}

func TestResetEndsWhatTheOldPasswordOpened(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	uid := f.newUser("alice", "a@example.com", "oldpass")
	require.Equal(t, wire.CodeOK, f.login("a@example.com", "oldpass").Error)

	// One session is on a live node, one on a node that has restarted under another boot id, one on a node that is
	// gone.
	require.NoError(t, presence.SeedGeneration(ctx, f.rdb))
	require.NoError(t, f.presence.Leases.Take(ctx, presence.Lease{Name: "chat1", Boot: "b1", ClientAddr: "127.0.0.1:1", RPCAddr: f.chatAddr}, ""))
	require.NoError(t, f.presence.Leases.Take(ctx, presence.Lease{Name: "chat2", Boot: "b2", ClientAddr: "127.0.0.1:2", RPCAddr: f.chatAddr}, ""))
	for i, at := range []presence.Location{
		{UID: uid, Device: "", SID: "s1", Node: "chat1", Boot: "b1"},
		{UID: uid, Device: "phone", SID: "s2", Node: "chat2", Boot: "old"},
		{UID: uid, Device: "tablet", SID: "s3", Node: "chat3", Boot: "b3"},
	} {
		_, err := f.presence.Sessions.Restore(ctx, []presence.Location{at})
		require.NoError(t, err, i)
	}
	require.NoError(t, f.presence.Leases.ReportLoad(ctx, "chat1", 1, nil))
	require.NoError(t, f.presence.Leases.ReportLoad(ctx, "chat2", 1, nil))
	require.NoError(t, f.store.Fence.Take(ctx, "chat3", "b3"))
	placed, err := f.presence.Nodes.Place(ctx, []int32{uid})
	require.NoError(t, err)
	good, err := f.presence.Tokens.Check(ctx, uid, placed[0].Token)
	require.NoError(t, err)
	require.True(t, good)
	require.NoError(t, f.presence.Cache.PutProfile(ctx, uid, "alice", []byte("{}")))

	require.Equal(t, wire.CodeOK, f.call("/reset_pwd", map[string]any{
		"user": "ALICE", "email": "A@example.com", "passwd": "newpass", "varifycode": f.code("a@example.com"),
	}).Error)
	good, err = f.presence.Tokens.Check(ctx, uid, placed[0].Token)
	require.NoError(t, err)
	require.False(t, good, "a token from before the reset")
	data, err := f.presence.Cache.ProfileByUID(ctx, uid)
	require.NoError(t, err)
	require.Nil(t, data)
	f.chat.mu.Lock()
	require.Equal(t, []string{fmt.Sprintf("%d/s1", uid)}, f.chat.kicked)
	f.chat.mu.Unlock()
	require.Equal(t, 2.0, f.metric("kicks_total", "result", "gone"))
	require.Empty(t, f.mailbox("chat1"))
	require.Equal(t, []presence.Kick{{UID: uid, SID: "s2"}}, f.mailbox("chat2"), "should that process come back")
	require.Equal(t, []presence.Kick{{UID: uid, SID: "s3"}}, f.mailbox("chat3"))
	boot, err := f.store.Fence.Boot(ctx, "chat3")
	require.NoError(t, err)
	require.Empty(t, boot, "a node without a lease stores nothing more")

	require.Equal(t, wire.CodePasswdInvalid, f.login("a@example.com", "oldpass").Error)
	require.Equal(t, wire.CodeOK, f.login("a@example.com", "newpass").Error)
}

// mailbox returns the kicks waiting for a node.
func (f *fixture) mailbox(node string) []presence.Kick {
	f.t.Helper()
	kicks, err := f.presence.Leases.Report(f.t.Context(), node, 1, nil, presence.Kicks{})
	require.NoError(f.t, err)
	return kicks.Sessions
}

// A3: the node refuses the connection, or the signature, or does not answer.
func TestAKickAfterAResetWaitsInTheMailboxOfANodeThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts connections that are never served
	require.NoError(t, err)
	defer silent.Close()
	signed := serveKitexWith(t, rpc.NewAuth("another secret"), func(s *rpc.Server) error { return chatservice.RegisterService(s, &fakeChat{}) })
	for name, addr := range map[string]string{"refused": "127.0.0.1:1", "silent": silent.Addr().String(), "another secret": signed} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			ctx := t.Context()
			uid := f.newUser("alice", "a@example.com", "oldpass")
			require.NoError(t, f.presence.Leases.Take(ctx, presence.Lease{Name: "chat1", Boot: "b1", ClientAddr: "127.0.0.1:1", RPCAddr: addr}, ""))
			require.NoError(t, f.presence.Leases.ReportLoad(ctx, "chat1", 1, nil))
			var want []presence.Kick
			for i := range presence.MaxDevices { // all at once: their calls time out together
				at := presence.Location{UID: uid, Device: fmt.Sprint("d", i), SID: fmt.Sprint("s", i), Node: "chat1", Boot: "b1"}
				want = append(want, presence.Kick{UID: uid, SID: at.SID})
				_, err := f.presence.Sessions.Restore(ctx, []presence.Location{at})
				require.NoError(t, err)
			}
			require.Equal(t, wire.CodeOK, f.call("/reset_pwd", map[string]any{
				"user": "alice", "email": "a@example.com", "passwd": "newpass", "varifycode": f.code("a@example.com"),
			}).Error)
			require.ElementsMatch(t, want, f.mailbox("chat1"))
			require.EqualValues(t, presence.MaxDevices, f.metric("kicks_total", "result", "left"))
			require.Zero(t, f.metric("kicks_total", "result", "failed"))
		})
	}
}

// A login that was accepted with the old password during a reset must not get a token that outlives the reset.
func TestLoginOvertakenByAResetIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.newUser("alice", "a@example.com", "oldpass")
	code := f.code("a@example.com")
	f.status.set(0, func() {
		body := map[string]any{"user": "alice", "email": "a@example.com", "passwd": "newpass", "varifycode": code}
		if got := f.call("/reset_pwd", body).Error; got != wire.CodeOK {
			t.Errorf("reset got %d", got)
		}
	})
	require.Equal(t, wire.CodePasswdInvalid, f.login("a@example.com", "oldpass").Error)
	require.Equal(t, wire.CodeOK, f.login("a@example.com", "newpass").Error)
}
