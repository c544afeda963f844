package rpc

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const secret = "a secret of the cluster"

// check calls Check with the metadata md and returns the reason for a refusal, or "".
func check(a *Auth, service, method string, md map[string]string) string {
	if r := a.Check(service, method, func(name string) string { return md[name] }); r != nil {
		return r.Reason
	}
	return ""
}

// named gives several Auths the same name, as if they were one process, so that only the tested difference matters.
func named(auths ...*Auth) {
	for _, a := range auths {
		a.name = "callee"
	}
}

// TestCanonicalBytes fixes the values that implementations in other languages must compute.
func TestCanonicalBytes(t *testing.T) {
	clock := func() time.Time { return time.Unix(1700000000, 0) }
	// body=$(printf 'a body' | openssl dgst -sha256 -r | cut -d' ' -f1)
	// printf 'parley-rpc-2\ncallee\nStatusService/Login\n'$body'\n1700000000\nn1' | openssl dgst -sha256 -hmac 0123456789abcdef
	const (
		body = "771824de42287642fa0fbe0b568b80cc3290e29b7d3cd6efbc7b1b8eb1037b04"
		sig  = "3b0ad90b303d093063e3c8303a335fe48b62ccc716d5c8e520447921c5623ec1"
	)
	require.Equal(t, body, digestOf([]byte("a body")))
	for _, sig := range []string{sig, strings.ToUpper(sig)} {
		a := NewAuth("0123456789abcdef").at(clock)
		named(a)
		require.Empty(t, check(a, "StatusService", "Login", map[string]string{
			HeaderTo: "callee", HeaderBody: body, HeaderTime: "1700000000", HeaderNonce: "n1", HeaderSig: sig,
		}))
	}
}

func (a *Auth) at(now func() time.Time) *Auth {
	a.now = now
	return a
}

func TestCheck(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	clock := func() time.Time { return now }
	server, client := NewAuth(secret).at(clock), NewAuth(secret).at(clock)
	sign := func(a *Auth, service, method string) map[string]string {
		return a.Sign(server.name, service, method, []byte("body"))
	}
	signed := func() map[string]string { return sign(client, "S", "M") }
	with := func(key, value string) map[string]string {
		md := signed()
		md[key] = value
		return md
	}
	shifted := func(d time.Duration) map[string]string {
		return sign(NewAuth(secret).at(func() time.Time { return now.Add(d) }), "S", "M")
	}
	for _, c := range []struct {
		name string
		md   map[string]string
		want string
	}{
		{"good", signed(), ""},
		{"30 s behind", shifted(-30 * time.Second), ""},
		{"30 s ahead", shifted(30 * time.Second), ""},
		{"31 s behind", shifted(-31 * time.Second), ReasonClock},
		{"31 s ahead", shifted(31 * time.Second), ReasonClock},
		{"none", nil, ReasonUnsigned},
		{"a question for the name", client.Sign(UnknownCallee, "S", "M", nil), ReasonCallee},
		{"no callee", with(HeaderTo, ""), ReasonCallee},
		{"for another callee", client.Sign(client.name, "S", "M", []byte("body")), ReasonCallee},
		{"no digest", with(HeaderBody, ""), ReasonMalformed},
		{"digest was changed", with(HeaderBody, digestOf([]byte("another"))), ReasonSignature},
		{"no time", with(HeaderTime, ""), ReasonMalformed},
		{"time is no number", with(HeaderTime, "now"), ReasonMalformed},
		{"time was changed", with(HeaderTime, "1700000001"), ReasonSignature},
		{"no nonce", with(HeaderNonce, ""), ReasonMalformed},
		{"long nonce", with(HeaderNonce, strings.Repeat("x", 65)), ReasonMalformed},
		{"nonce was changed", with(HeaderNonce, "x"), ReasonSignature},
		{"no signature", with(HeaderSig, ""), ReasonSignature},
		{"signature is no hex", with(HeaderSig, "xyz"), ReasonMalformed},
		{"short signature", with(HeaderSig, "00"), ReasonSignature},
		{"other secret", sign(NewAuth("another secret").at(clock), "S", "M"), ReasonSignature},
		{"other method", sign(client, "S", "N"), ReasonSignature},
		{"other service", sign(client, "T", "M"), ReasonSignature},
	} {
		require.Equal(t, c.want, check(server, "S", "M", c.md), c.name)
	}
	require.Empty(t, check(nil, "S", "M", nil), "no secret accepts all")
	require.Empty(t, check(nil, "S", "M", signed()), "also those who sign")
	require.Nil(t, (*Auth)(nil).Sign("x", "S", "M", nil))
	require.Nil(t, NewAuth(""))
}

// A1: a restart makes recorded calls useless, whatever the clocks say.
func TestARestartedProcessRefusesRecordedCalls(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	clock := func() time.Time { return now }
	before := NewAuth(secret).at(clock)
	ahead := NewAuth(secret).at(func() time.Time { return now.Add(20 * time.Second) }) // its calls look younger than the restart
	recorded := ahead.Sign(before.name, "S", "M", nil)
	require.Empty(t, check(before, "S", "M", recorded))
	now = now.Add(time.Second)
	require.Equal(t, ReasonCallee, check(NewAuth(secret).at(clock), "S", "M", recorded))
}

func TestAClockThatIsOffIsToldHowFar(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	server := NewAuth(secret).at(func() time.Time { return now })
	for want, d := range map[string]time.Duration{"45 s behind": -45 * time.Second, "3600 s ahead": time.Hour} {
		md := NewAuth(secret).at(func() time.Time { return now.Add(d) }).Sign(server.name, "S", "M", nil)
		r := server.Check("S", "M", func(name string) string { return md[name] })
		require.Equal(t, &Refusal{Reason: ReasonClock, Detail: want}, r)
		parsed, ok := parseRefusal("rpc error: " + r.Error())
		require.True(t, ok)
		require.Equal(t, r, parsed)
	}
}

func TestReplay(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	clock := func() time.Time { return now }
	server, client := NewAuth(secret).at(clock), NewAuth(secret).at(clock)
	ahead := NewAuth(secret).at(func() time.Time { return now.Add(30 * time.Second) }).Sign(server.name, "S", "M", nil)
	md := client.Sign(server.name, "S", "M", nil)
	require.Empty(t, check(server, "S", "M", md))
	require.Empty(t, check(server, "S", "M", ahead))
	for range 61 { // the cache remembers the nonce as long as the clock check would accept it
		want := ReasonReplay
		if now.Unix() > 1_700_000_030 {
			want = ReasonClock
		}
		require.Equal(t, want, check(server, "S", "M", md), "at %s", now)
		require.Equal(t, ReasonReplay, check(server, "S", "M", ahead), "at %s", now)
		now = now.Add(time.Second)
	}
	require.Equal(t, ReasonClock, check(server, "S", "M", ahead))
	require.Empty(t, check(server, "S", "M", client.Sign(server.name, "S", "M", nil)))
	require.Equal(t, 1, server.total, "what the clock refuses is forgotten")
	require.Len(t, server.seen, 1)
}

func TestReplayCacheIsBounded(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	a := NewAuth(secret).at(func() time.Time { return now })
	a.limit = 1000
	for i := range a.limit {
		require.Nil(t, a.remember(now.Unix(), strconv.Itoa(i), now.Unix()))
	}
	require.Equal(t, ReasonFull, check(a, "S", "M", a.Sign(a.name, "S", "M", nil)), "it refuses rather than forgets")
	now = now.Add(31 * time.Second)
	require.Empty(t, check(a, "S", "M", a.Sign(a.name, "S", "M", nil)))
}

func TestOneOfManyReplaysPasses(t *testing.T) {
	a := NewAuth(secret)
	md := a.Sign(a.name, "S", "M", nil)
	var passed, disturbed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if check(a, "S", "M", md) == "" {
				passed.Add(1)
			}
			if check(a, "S", "M", a.Sign(a.name, "S", "M", nil)) != "" {
				disturbed.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, passed.Load())
	require.Zero(t, disturbed.Load())
}

func TestRememberedCalleesAreBounded(t *testing.T) {
	a := NewAuth(secret)
	for i := range 3 * maxCallees {
		a.learn(strconv.Itoa(i), "callee")
		require.Equal(t, "callee", a.calleeAt(strconv.Itoa(i)))
	}
	require.LessOrEqual(t, a.callees.Len(), 2*maxCallees)
}
