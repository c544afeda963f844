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

// check runs Check with the metadata of md.
func check(a *Auth, service, method string, md map[string]string) error {
	return a.Check(service, method, md[HeaderTime], md[HeaderNonce], md[HeaderSig])
}

// TestCanonicalBytes fixes what other languages must compute.
func TestCanonicalBytes(t *testing.T) {
	a := NewAuth("0123456789abcdef")
	a.now = func() time.Time { return time.Unix(1700000000, 0) }
	// printf 'parley-rpc-1\nStatusService/Login\n1700000000\nn1' | openssl dgst -sha256 -hmac 0123456789abcdef
	const sig = "c903279d110d74d27a8ccb6c9f0ed95b7d087c13568dd931c82aac3dcce49b5e"
	require.NoError(t, a.Check("StatusService", "Login", "1700000000", "n1", sig))
	require.NoError(t, NewAuth("0123456789abcdef").at(a.now).Check("StatusService", "Login", "1700000000", "n1", strings.ToUpper(sig)))
}

func (a *Auth) at(now func() time.Time) *Auth {
	a.now = now
	return a
}

func TestCheck(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	clock := func() time.Time { return now }
	server := NewAuth(secret).at(clock)
	client := NewAuth(secret).at(clock)
	signed := func() map[string]string { return client.Sign("S", "M") }
	with := func(key, value string) map[string]string {
		md := signed()
		md[key] = value
		return md
	}
	shifted := func(d time.Duration) map[string]string {
		return NewAuth(secret).at(func() time.Time { return now.Add(d) }).Sign("S", "M")
	}
	for _, c := range []struct {
		name string
		md   map[string]string
		want error
	}{
		{"good", signed(), nil},
		{"30 s behind", shifted(-30 * time.Second), nil},
		{"30 s ahead", shifted(30 * time.Second), nil},
		{"31 s behind", shifted(-31 * time.Second), errClock},
		{"31 s ahead", shifted(31 * time.Second), errClock},
		{"none", nil, errUnsigned},
		{"no time", with(HeaderTime, ""), errMalformed},
		{"time is no number", with(HeaderTime, "now"), errMalformed},
		{"time was changed", with(HeaderTime, "1700000001"), errSignature},
		{"no nonce", with(HeaderNonce, ""), errMalformed},
		{"long nonce", with(HeaderNonce, strings.Repeat("x", 65)), errMalformed},
		{"nonce was changed", with(HeaderNonce, "x"), errSignature},
		{"no signature", with(HeaderSig, ""), errSignature},
		{"signature is no hex", with(HeaderSig, "xyz"), errMalformed},
		{"short signature", with(HeaderSig, "00"), errSignature},
		{"other secret", NewAuth("another secret").at(clock).Sign("S", "M"), errSignature},
		{"other method", client.Sign("S", "N"), errSignature},
		{"other service", client.Sign("T", "M"), errSignature},
	} {
		require.Equal(t, c.want, check(server, "S", "M", c.md), c.name)
	}
	require.NoError(t, check(nil, "S", "M", nil), "no secret accepts all")
	require.NoError(t, check(nil, "S", "M", signed()), "also those who sign")
	require.Nil(t, (*Auth)(nil).Sign("S", "M"))
	require.Nil(t, NewAuth(""))
}

func TestReplay(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	clock := func() time.Time { return now }
	server, client := NewAuth(secret).at(clock), NewAuth(secret).at(clock)
	ahead := NewAuth(secret).at(func() time.Time { return now.Add(30 * time.Second) }).Sign("S", "M")
	md := client.Sign("S", "M")
	require.NoError(t, check(server, "S", "M", md))
	require.NoError(t, check(server, "S", "M", ahead))
	for range 61 { // for as long as the clock lets it pass, the cache remembers
		want := errReplay
		if now.Unix() > 1_700_000_030 {
			want = errClock
		}
		require.Equal(t, want, check(server, "S", "M", md), "at %s", now)
		require.Equal(t, errReplay, check(server, "S", "M", ahead), "at %s", now)
		now = now.Add(time.Second)
	}
	require.Equal(t, errClock, check(server, "S", "M", ahead))
	require.NoError(t, check(server, "S", "M", client.Sign("S", "M")))
	require.Equal(t, 1, server.total, "what the clock refuses is forgotten")
	require.Len(t, server.seen, 1)
}

func TestReplayCacheIsBounded(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	a := NewAuth(secret).at(func() time.Time { return now })
	a.limit = 1000
	for i := range a.limit {
		require.NoError(t, a.remember(now.Unix(), strconv.Itoa(i), now.Unix()))
	}
	require.Equal(t, errFull, check(a, "S", "M", a.Sign("S", "M")), "it refuses rather than forgets")
	now = now.Add(31 * time.Second)
	require.NoError(t, check(a, "S", "M", a.Sign("S", "M")))
}

func TestOneOfManyReplaysPasses(t *testing.T) {
	a := NewAuth(secret)
	md := a.Sign("S", "M")
	var passed, disturbed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if check(a, "S", "M", md) == nil {
				passed.Add(1)
			}
			if check(a, "S", "M", a.Sign("S", "M")) != nil {
				disturbed.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, passed.Load())
	require.Zero(t, disturbed.Load())
}
