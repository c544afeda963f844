package gate

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
	"parley/kitex_gen/message"
)

func TestLegacyRowIsUpgradedAtLogin(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	uid := f.rawUser("old", "old@example.com", "gde745")
	require.Equal(t, wire.CodePasswdInvalid, f.login("old@example.com", "gde746").Error)
	require.Equal(t, "gde745", f.stored("old@example.com"), "a failure upgrades nothing")
	r := f.login("old@example.com", "gde745")
	require.Equal(t, wire.CodeOK, r.Error)
	require.Equal(t, uid, r.UID)
	stored := f.stored("old@example.com")
	require.True(t, isPHC(stored))
	require.Equal(t, wire.CodeOK, f.login("old@example.com", "gde745").Error)
	require.Equal(t, wire.CodePasswdInvalid, f.login("old@example.com", stored).Error, "the hash is no password")
}

func TestLegacyRowUpgradedByManyAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.rawUser("old", "old@example.com", "gde745")
	codes := make([]wire.Code, 4)
	var wg sync.WaitGroup
	for i := range codes {
		wg.Go(func() { codes[i] = f.login("old@example.com", "gde745").Error })
	}
	wg.Wait()
	require.Equal(t, make([]wire.Code, 4), codes)
}

func TestHashIsRenewedWhenTheCostWasRaised(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.Hash.MemoryKiB = 128 })
	f.rawUser("a", "a@example.com", newPHC(hashParams{memoryKiB: 64, passes: 1, lanes: 1}, "abcdef"))
	require.Equal(t, wire.CodeOK, f.login("a@example.com", "abcdef").Error)
	require.Contains(t, f.stored("a@example.com"), "$m=128,t=1,p=1$")
	before := f.stored("a@example.com")
	f.logins.recent.forget(1001)
	require.Equal(t, wire.CodeOK, f.login("a@example.com", "abcdef").Error)
	require.Equal(t, before, f.stored("a@example.com"), "once is enough")
}

func TestUnusableRowsAreRefusedWithoutHashingThem(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	huge := strings.Replace(newPHC(hashParams{64, 1, 1}, "abcdef"), "m=64", "m=4000000", 1)
	f.rawUser("huge", "huge@example.com", huge)
	f.rawUser("broken", "broken@example.com", "$argon2id$broken")
	f.rawUser("space", "space@example.com", " ")
	for _, tc := range []struct{ email, passwd string }{
		{"huge@example.com", "abcdef"},
		{"huge@example.com", huge},
		{"broken@example.com", "$argon2id$broken"},
		{"space@example.com", ""},
	} {
		require.Equal(t, wire.CodePasswdInvalid, f.login(tc.email, tc.passwd).Error, tc.email)
	}
	require.Equal(t, 4.0, f.metric("hashes_total", "kind", "dummy"))
	require.Equal(t, 0.0, f.metric("hashes_total", "kind", "verify"))
}

// Each failure costs exactly one hash and gets the same answer, whatever the account.
func TestFailuresAreAlike(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.newUser("new", "new@example.com", "abcdef")
	f.rawUser("old", "old@example.com", "abcdef")
	for _, tc := range []struct{ email, kind string }{
		{"new@example.com", "verify"}, {"old@example.com", "dummy"}, {"nobody@example.com", "dummy"},
	} {
		before, all := f.metric("hashes_total", "kind", tc.kind), f.metric("hashes_total")
		require.Equal(t, `{"error":1009}`, f.post("/user_login", `{"email":"`+tc.email+`","passwd":"wrong1"}`), tc.email)
		require.Equal(t, before+1, f.metric("hashes_total", "kind", tc.kind), tc.email)
		require.Equal(t, all+1, f.metric("hashes_total"), tc.email)
	}
	// Codes are mailed to any address.
	require.Equal(t, `{"error":0,"email":"new@example.com"}`, f.post("/get_varifycode", `{"email":"new@example.com"}`))
	require.Equal(t, `{"error":0,"email":"nobody@example.com"}`, f.post("/get_varifycode", `{"email":"nobody@example.com"}`))
}

func TestAccountIsLockedAfterFiveFailures(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.Limits.Remember = 0 })
	f.newUser("alice", "alice@example.com", "abcdef")
	for _, email := range []string{"alice@example.com", "nobody@example.com"} {
		checks := f.metric("hashes_total")
		for i := range 5 {
			require.Equal(t, wire.CodePasswdInvalid, f.login(email, "wrong1").Error, "try %d", i+1)
		}
		r := f.login(strings.ToUpper(email), "abcdef")
		require.Equal(t, wire.CodeRateLimited, r.Error, "even the right one, in any spelling")
		require.InDelta(t, 5*time.Minute.Milliseconds(), r.RetryMS, 1000)
		require.Equal(t, checks+5, f.metric("hashes_total"), "a locked account costs no hash")

		f.mr.FastForward(5*time.Minute + time.Second)
		require.Equal(t, wire.CodePasswdInvalid, f.login(email, "wrong1").Error)
		require.InDelta(t, 10*time.Minute.Milliseconds(), f.login(email, "wrong1").RetryMS, 1000, "twice as long")
		require.Equal(t, checks+6, f.metric("hashes_total"), "5 + 1 in the first 15 minutes")
		f.mr.FastForward(10*time.Minute + time.Second)
		require.Equal(t, wire.CodePasswdInvalid, f.login(email, "wrong1").Error)
		require.InDelta(t, 15*time.Minute.Milliseconds(), f.login(email, "wrong1").RetryMS, 1000, "and no longer than this")
		f.mr.FastForward(15*time.Minute + time.Second)
	}
	require.Equal(t, wire.CodeOK, f.login("alice@example.com", "abcdef").Error)
	for range 4 {
		require.Equal(t, wire.CodePasswdInvalid, f.login("alice@example.com", "wrong1").Error, "a success forgets the failures")
	}
}

func TestManyGuessesAtOnceGetFiveChecks(t *testing.T) {
	f := newFixture(t)
	f.newUser("alice", "alice@example.com", "abcdef")
	checks := f.metric("hashes_total")
	count := map[wire.Code]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			for j := range 20 {
				c := f.login("alice@example.com", fmt.Sprintf("guess%d-%d", i, j)).Error
				mu.Lock()
				count[c]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Equal(t, map[wire.Code]int{wire.CodePasswdInvalid: 5, wire.CodeRateLimited: 195}, count)
	require.Equal(t, checks+5, f.metric("hashes_total"))
}

func TestOwnerPassesALockWithAPasswordProvenBefore(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.newUser("alice", "alice@example.com", "abcdef")
	require.Equal(t, wire.CodeOK, f.login("alice@example.com", "abcdef").Error)
	for range 6 {
		f.login("alice@example.com", "wrong1")
	}
	require.Equal(t, wire.CodeRateLimited, f.login("alice@example.com", "wrong1").Error)
	require.Equal(t, wire.CodeOK, f.login("alice@example.com", "abcdef").Error)
}

func TestProvenPasswordNeedsNoHashUntilItChanges(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.newUser("alice", "alice@example.com", "abcdef")
	require.Equal(t, wire.CodeOK, f.login("alice@example.com", "abcdef").Error)
	hashes := f.metric("hashes_total")
	for range 10 {
		require.Equal(t, wire.CodeOK, f.login("Alice@example.com", "abcdef").Error)
	}
	require.Equal(t, hashes, f.metric("hashes_total"))
	require.Equal(t, 10.0, f.metric("logins_remembered_total"))

	// Reset the password as another gate would, without telling this one.
	_, err := f.store.Users.ResetPassword(t.Context(), "alice", "alice@example.com", newPHC(f.logins.hasher.params, "newpass"))
	require.NoError(t, err)
	require.Equal(t, wire.CodePasswdInvalid, f.login("alice@example.com", "abcdef").Error)
	require.Equal(t, wire.CodeOK, f.login("alice@example.com", "newpass").Error)
}

func TestAddressIsThrottledOnFailuresAlone(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Limits.ThrottleLoopback = true })
	f.newUser("alice", "alice@example.com", "abcdef")
	for range 30 {
		require.Equal(t, wire.CodeOK, f.login("alice@example.com", "abcdef").Error)
	}
	var failed, throttled int
	for i := range 30 {
		r := f.login(fmt.Sprintf("u%d@example.com", i), "wrong1")
		switch r.Error {
		case wire.CodePasswdInvalid:
			failed++
		case wire.CodeRateLimited:
			throttled++
			require.Positive(t, r.RetryMS)
			require.LessOrEqual(t, r.RetryMS, int64(3000), "one comes free every 3 s")
		}
	}
	require.GreaterOrEqual(t, failed, 20)
	require.Less(t, failed, 30)
	require.Equal(t, 30-failed, throttled)
	require.Eventually(t, func() bool { // one more may have come free, which this takes
		res, _ := f.do(http.MethodPost, "/user_login", `{"email":"x@example.com","passwd":"wrong1"}`)
		return res.Header.Get("Retry-After") != ""
	}, patience, time.Millisecond)
}

func TestLoopbackIsExempt(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for i := range 30 {
		require.Equal(t, wire.CodePasswdInvalid, f.login(fmt.Sprintf("u%d@example.com", i), "wrong1").Error)
		require.Equal(t, wire.CodeOK, f.call("/get_varifycode", map[string]any{"email": fmt.Sprintf("u%d@example.com", i)}).Error)
	}
}

func TestHashQueueIsBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.Hash.Parallel, c.Hash.Waiting, c.Hash.Patience = 1, 2, time.Hour })
	f.newUser("alice", "alice@example.com", "abcdef")
	f.newUser("bob", "bob@example.com", "abcdef")
	require.NoError(t, f.logins.hasher.slots.Take(t.Context(), 0)) // a slow hash
	replies := make(chan reply, 2)
	for _, email := range []string{"alice@example.com", "bob@example.com"} {
		go func() { replies <- f.login(email, "abcdef") }()
	}
	require.Eventually(t, func() bool { return f.metric("hash_waiting") == 2 }, patience, time.Millisecond)
	res, text := f.do(http.MethodPost, "/user_login", `{"email":"nobody@example.com","passwd":"abcdef"}`)
	require.Equal(t, 200, res.StatusCode)
	var r reply
	require.NoError(t, json.Unmarshal([]byte(text), &r))
	require.Equal(t, wire.CodeBusy, r.Error)
	require.Positive(t, r.RetryMS)
	require.NotEmpty(t, res.Header.Get("Retry-After"))
	for range 10 {
		require.Equal(t, wire.CodeBusy, f.login("nobody@example.com", "abcdef").Error, "what was not looked at is not counted")
	}
	f.logins.hasher.slots.Give()
	require.Equal(t, wire.CodeOK, (<-replies).Error)
	require.Equal(t, wire.CodeOK, (<-replies).Error)
	require.Equal(t, wire.CodePasswdInvalid, f.login("nobody@example.com", "abcdef").Error)
}

func TestHashPatienceEnds(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.Hash.Parallel, c.Hash.Patience = 1, 10*time.Millisecond })
	require.NoError(t, f.logins.hasher.slots.Take(t.Context(), 0))
	defer f.logins.hasher.slots.Give()
	require.Equal(t, wire.CodeBusy, f.login("nobody@example.com", "abcdef").Error)
	require.Equal(t, 1.0, f.metric("hash_refused_total", "reason", "patience"))
}

func TestWaiterThatHangsUpFreesItsPlace(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.Hash.Parallel, c.Hash.Patience = 1, time.Hour })
	require.NoError(t, f.logins.hasher.slots.Take(t.Context(), 0))
	defer f.logins.hasher.slots.Give()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url+"/user_login", strings.NewReader(`{"email":"a@example.com","passwd":"abcdef"}`))
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res, err := http.DefaultClient.Do(req); err == nil {
			_ = res.Body.Close()
		}
	}()
	require.Eventually(t, func() bool { return f.metric("hash_waiting") == 1 }, patience, time.Millisecond)
	cancel()
	<-done
	require.Eventually(t, func() bool { return f.metric("hash_waiting") == 0 }, patience, time.Millisecond)
}

func TestStatusServers(t *testing.T) {
	t.Parallel()
	t.Run("the next is asked when one is dead", func(t *testing.T) {
		f := newFixture(t, func(c *Config) { c.Status.Addrs = append([]string{"127.0.0.1:1"}, c.Status.Addrs...) })
		f.newUser("alice", "alice@example.com", "abcdef")
		require.Equal(t, wire.CodeOK, f.login("alice@example.com", "abcdef").Error)
		require.Equal(t, 1.0, f.metric("placements_total", "result", "unreachable"))
		require.Equal(t, wire.CodeOK, f.login("alice@example.com", "abcdef").Error)
		require.Equal(t, 1.0, f.metric("placements_total", "result", "unreachable"), "who answered is asked first")
	})
	t.Run("none answers", func(t *testing.T) {
		f := newFixture(t, func(c *Config) { c.Status.Addrs = []string{"127.0.0.1:1"} })
		f.newUser("alice", "alice@example.com", "abcdef")
		require.Equal(t, wire.CodeRPC, f.login("alice@example.com", "abcdef").Error)
	})
	t.Run("one refuses", func(t *testing.T) {
		f := newFixture(t)
		f.newUser("alice", "alice@example.com", "abcdef")
		for _, code := range []int32{1002, 2002} {
			f.status.set(code, nil)
			require.Equal(t, `{"error":1002}`, f.post("/user_login", `{"email":"alice@example.com","passwd":"abcdef"}`))
		}
	})
}

func TestAddressesAreThoseThatANodeOffers(t *testing.T) {
	all := addressesOf(&message.GetChatServerRsp{Host: "10.0.0.5", Port: "8090", Tls: "a:1", Ws: "ws://a:2/", Wss: "wss://a:3/"})
	require.Equal(t, addresses{TCP: "10.0.0.5:8090", TLS: "a:1", WS: "ws://a:2/", WSS: "wss://a:3/"}, all)
	require.Equal(t, addresses{TLS: "a:1"}, addressesOf(&message.GetChatServerRsp{Tls: "a:1"}), "a node without a port for TCP")
}
