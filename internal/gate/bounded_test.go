package gate

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBoundedForgetsTheLeastRecentlyUsed(t *testing.T) {
	b := newBounded[string, int](2)
	b.put("a", 1)
	b.put("b", 2)
	_, ok := b.get("a")
	require.True(t, ok)
	b.put("c", 3)
	_, ok = b.get("b")
	require.False(t, ok)
	b.put("a", 4)
	v, ok := b.get("a")
	require.True(t, ok)
	require.Equal(t, 4, v)
	require.Equal(t, 2, b.len())
	b.remove("a")
	b.remove("a")
	require.Equal(t, 1, b.len())
}

func TestAddressLimit(t *testing.T) {
	now := time.Unix(1000, 0)
	l := newAddressLimit(2, time.Minute, func(a netip.Addr) bool { return a.IsLoopback() })
	l.now = func() time.Time { return now }
	a := netip.MustParseAddr("10.0.0.1")
	require.Zero(t, l.take(a))
	require.Zero(t, l.take(a))
	require.Equal(t, 30*time.Second, l.take(a))
	now = now.Add(20 * time.Second)
	require.InDelta(t, 10*time.Second, l.take(a), float64(time.Millisecond))
	now = now.Add(10*time.Second + time.Millisecond)
	require.Zero(t, l.take(a))
	require.NotZero(t, l.take(a))
	l.giveBack(a)
	require.Zero(t, l.take(a))
	require.Zero(t, l.take(netip.MustParseAddr("10.0.0.2")), "addresses are apart")

	for range 10 {
		require.Zero(t, l.take(netip.MustParseAddr("127.0.0.1")))
	}
	require.Zero(t, l.take(netip.MustParseAddr("2001:db8:1:2::1")))
	require.Zero(t, l.take(netip.MustParseAddr("2001:db8:1:2::2")))
	require.NotZero(t, l.take(netip.MustParseAddr("2001:db8:1:2:3::")), "a /64 is one address")
	require.Zero(t, l.take(netip.Addr{}), "nobody knows who")

	l.buckets.limit = 100
	for i := range 1000 {
		l.take(netip.MustParseAddr(fmt.Sprintf("10.1.%d.%d", i/250, i%250)))
	}
	require.LessOrEqual(t, l.buckets.len(), 100)
}

func TestLoginsAreForgotten(t *testing.T) {
	now := time.Unix(1000, 0)
	l := newLogins([]byte("k"), time.Minute, 10)
	l.now = func() time.Time { return now }
	l.note(7, "a@b", "pw", "stored")
	require.True(t, l.proven(7, "a@b", "pw", "stored"))
	require.False(t, l.proven(8, "a@b", "pw", "stored"))
	require.False(t, l.proven(7, "a@bp", "w", "stored"), "parts do not run together")
	require.False(t, l.proven(7, "a@b", "pw", "other"))
	now = now.Add(time.Minute + time.Second)
	require.False(t, l.proven(7, "a@b", "pw", "stored"))
	l.note(7, "a@b", "pw", "stored")
	l.note(7, "a@b", "pw2", "stored")
	l.note(8, "c@d", "pw", "stored")
	l.forget(7)
	require.False(t, l.proven(7, "a@b", "pw", "stored"))
	require.True(t, l.proven(8, "c@d", "pw", "stored"))
	require.Equal(t, 1, l.seen.len())
}

func TestCleanEmail(t *testing.T) {
	for in, want := range map[string]string{
		"a@b.c": "a@b.c", "Alice.B+tag@Example.COM": "alice.b+tag@example.com", "a@localhost": "a@localhost", "a_b@c-d.e": "a_b@c-d.e",
		"": "", "a": "", "@": "", "a@": "", "@b": "", "a@b@c": "", "a b@c.d": "", "a@b..c": "", "a@.b": "", "a@b.": "", ".a@b.c": "", "a.@b.c": "",
		"a..b@c.d": "", "a{b}@c.d": "", "a@{b}.d": "", "a\r\nTo: x@b.c": "", "a@b\n.c": "", "<a@b.c>": "", "\"a\"@b.c": "", "\u212a@b.c": "", "a@b.c\x00": "", "a@-b.c": "",
	} {
		got, ok := cleanEmail(in)
		require.Equal(t, want, got, "%q", in)
		require.Equal(t, want != "", ok, "%q", in)
	}
}
