package admission

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// client is a connection of a test.
type client struct {
	Entry
	name string
	gone bool
}

func (c *client) Evict() { c.gone = true }

// table is a Table with its clock.
type table struct {
	*Table
	t   *testing.T
	now time.Time
}

func newTable(t *testing.T, l Limits) *table {
	if l.Timeout == 0 {
		l.Timeout, l.MinTimeout = 10*time.Second, 2*time.Second
	}
	return &table{New(l), t, time.Unix(1767605472, 0)}
}

// admit connects a client from addr, a millisecond after the last one. Admitted means that it may stay, whichever
// other one was evicted.
func (a *table) admit(addr string) (*client, Reason) {
	a.t.Helper()
	a.now = a.now.Add(time.Millisecond)
	c := &client{name: addr}
	evicted, reached, ok := a.Admit(&c.Entry, netip.MustParseAddr(addr), a.now)
	if evicted != nil {
		evicted.Evict()
		a.Closed(&evicted.(*client).Entry, a.now)
	}
	if !ok {
		require.NotEqual(a.t, Admitted, reached)
		require.Nil(a.t, evicted)
		return c, reached
	}
	require.True(a.t, a.Bind(&c.Entry, c))
	if evicted != nil {
		require.NotEqual(a.t, Admitted, reached)
	}
	return c, Admitted
}

func (a *table) mustAdmit(addr string) *client {
	a.t.Helper()
	c, refused := a.admit(addr)
	require.Equal(a.t, Admitted, refused, "%s", refused)
	return c
}

// name admits a client behind a proxy, which then says its address.
func (a *table) name(addr string) (*client, Reason) {
	a.t.Helper()
	c := &client{name: addr}
	evicted, refused, ok := a.Admit(&c.Entry, netip.Addr{}, a.now)
	require.True(a.t, ok, "%s", refused)
	if evicted != nil {
		evicted.Evict() // it is still to be closed
	}
	require.True(a.t, a.Bind(&c.Entry, c))
	evicted, refused, ok = a.SetAddr(&c.Entry, netip.MustParseAddr(addr), a.now)
	if evicted != nil {
		evicted.Evict()
		a.Closed(&evicted.(*client).Entry, a.now)
	}
	if !ok {
		a.Closed(&c.Entry, a.now)
		return c, refused
	}
	return c, Admitted
}

func TestBehindAProxyTheClientsAddressCounts(t *testing.T) {
	a := newTable(t, Limits{Waiting: 100, PerNetwork: 2, NetworkRate: 3, Exempt: netip.Addr.IsLoopback})
	for range 10 { // as many proxies' connections as come
		_, _, ok := a.Admit(new(Entry), netip.Addr{}, a.now)
		require.True(t, ok)
	}
	direct := a.mustAdmit("192.0.2.1")
	behind, refused := a.name("192.0.2.1")
	require.Equal(t, Admitted, refused)
	_, refused = a.name("192.0.2.1")
	require.Equal(t, Network, refused)
	_, refused = a.admit("192.0.2.1")
	require.Equal(t, Network, refused)
	a.Closed(&direct.Entry, a.now)
	again, refused := a.name("192.0.2.1")
	require.Equal(t, Admitted, refused)
	a.Closed(&behind.Entry, a.now)
	_, refused = a.name("192.0.2.1")
	require.Equal(t, NetworkRate, refused)
	require.True(t, a.Authenticated(&again.Entry))

	for _, addr := range []string{"2001:db8::1", "2001:db8::2"} {
		_, refused = a.name(addr)
		require.Equal(t, Admitted, refused)
	}
	_, refused = a.name("2001:db8:0:0:ffff::1")
	require.Equal(t, Network, refused, "one /64")
	for range 5 {
		_, refused = a.name("127.0.0.1")
		require.Equal(t, Admitted, refused, "exempt")
	}
	conns, waiting := a.Counts()
	require.Equal(t, 18, conns)
	require.Equal(t, 17, waiting)
}

func TestNamedConnectionsAreEvictedByTheirNetwork(t *testing.T) {
	a := newTable(t, Limits{Waiting: 4})
	var crowd []*client
	for range 3 {
		c, refused := a.name("192.0.2.1")
		require.Equal(t, Admitted, refused)
		crowd = append(crowd, c)
	}
	honest, _ := a.name("192.0.2.2")
	_, refused := a.name("192.0.2.3")
	require.Equal(t, Admitted, refused)
	require.True(t, crowd[0].gone)
	require.False(t, honest.gone)
	_, waiting := a.Counts()
	require.Equal(t, 4, waiting)

	// A connection that was evicted or closed before its proxy named the client stays so.
	_, _, ok := a.SetAddr(&crowd[0].Entry, netip.MustParseAddr("192.0.2.9"), a.now)
	require.True(t, ok)
	a.Closed(&honest.Entry, a.now)
	_, _, ok = a.SetAddr(&honest.Entry, netip.MustParseAddr("192.0.2.9"), a.now)
	require.True(t, ok)
	conns, waiting := a.Counts()
	require.Equal(t, 4, conns, "with the evicted one, which is still to be closed")
	require.Equal(t, 3, waiting)

	own := newTable(t, Limits{Waiting: 10, PerNetwork: 1, DisplaceOwn: true})
	first, _ := own.name("192.0.2.1")
	second, refused := own.name("192.0.2.1")
	require.Equal(t, Admitted, refused)
	require.True(t, first.gone)
	require.False(t, second.gone)
}

// B2
func TestTheNetworkThatHoldsMostLosesItsOldest(t *testing.T) {
	a := newTable(t, Limits{Waiting: 10})
	honest := a.mustAdmit("192.0.2.1")
	var crowd []*client
	for range 9 {
		crowd = append(crowd, a.mustAdmit("192.0.2.2"))
	}
	for i := range 20 {
		crowd = append(crowd, a.mustAdmit("192.0.2.2"))
		require.True(t, crowd[i].gone, "oldest first")
		require.False(t, crowd[i+1].gone)
	}
	other := a.mustAdmit("192.0.2.3")
	require.False(t, honest.gone, "the oldest of all, but not of the crowd")
	require.False(t, other.gone)
	_, waiting := a.Counts()
	require.Equal(t, 10, waiting)
}

func TestOfEqualNetworksTheOneThatWaitedLongestLoses(t *testing.T) {
	a := newTable(t, Limits{Waiting: 3})
	var all []*client
	for i := range 10 {
		all = append(all, a.mustAdmit(fmt.Sprintf("192.0.2.%d", i)))
	}
	for i, c := range all {
		require.Equal(t, i < 7, c.gone, i)
	}
}

func TestBusyConnectionsAreNotEvictedForSilentOnes(t *testing.T) {
	a := newTable(t, Limits{Waiting: 4})
	var working []*client
	for range 3 {
		c := a.mustAdmit("192.0.2.1")
		a.Busy(&c.Entry, a.now)
		working = append(working, c)
	}
	silent := a.mustAdmit("192.0.2.2")
	next := a.mustAdmit("192.0.2.3")
	require.True(t, silent.gone)
	a.Busy(&next.Entry, a.now)

	_, refused := a.admit("192.0.2.1") // its network has the most already
	require.Equal(t, Waiting, refused)
	fair := a.mustAdmit("192.0.2.4")
	require.True(t, working[2].gone, "the newest: the others are served before")
	require.False(t, working[0].gone || working[1].gone || fair.gone)

	a.Silent(&working[0].Entry, a.now)
	a.mustAdmit("192.0.2.5")
	require.True(t, fair.gone, "the silent one of equals that waited longest")
	require.False(t, working[0].gone)
	a.mustAdmit("192.0.2.6")
	require.True(t, working[0].gone)
}

// B2
func TestAListenerPausesUntilTheNextToGoHasHadItsTime(t *testing.T) {
	a := newTable(t, Limits{Waiting: 2})
	first := a.mustAdmit("192.0.2.1")
	require.Zero(t, a.Pause(a.now))
	a.mustAdmit("192.0.2.1")
	require.Equal(t, Grace-time.Millisecond, a.Pause(a.now))
	require.Equal(t, Grace, a.Pause(a.now.Add(-time.Hour)), "the clock was set back")
	require.Zero(t, a.Pause(a.now.Add(Grace)))
	a.Busy(&first.Entry, a.now)
	require.Equal(t, Grace, a.Pause(a.now), "the other one is next")
	a.now = a.now.Add(Grace)
	third := a.mustAdmit("192.0.2.1")
	a.Busy(&third.Entry, a.now)
	require.Zero(t, a.Pause(a.now), "none is silent: the next is refused, or one goes whose turn is not near")
}

func TestAuthenticatedConnectionsAreNeverEvicted(t *testing.T) {
	a := newTable(t, Limits{Waiting: 2, Connections: 3})
	user := a.mustAdmit("192.0.2.1")
	a.Authenticated(&user.Entry)
	first := a.mustAdmit("192.0.2.1")
	second := a.mustAdmit("192.0.2.1")
	third := a.mustAdmit("192.0.2.2") // both limits are reached
	require.True(t, first.gone)
	for _, c := range []*client{second, third} {
		a.Authenticated(&c.Entry)
	}
	_, refused := a.admit("192.0.2.3")
	require.Equal(t, Full, refused)
	a.Closed(&user.Entry, a.now)
	a.Closed(&user.Entry, a.now)
	conns, waiting := a.Counts()
	require.Equal(t, []int{2, 0}, []int{conns, waiting})
	a.mustAdmit("192.0.2.3")
}

// B3
func TestAnIPv6NetworkCountsAsOne(t *testing.T) {
	a := newTable(t, Limits{Waiting: 100, PerNetwork: 5, NetworkRate: 50})
	admitted := 0
	for i := range 400 {
		if _, refused := a.admit(fmt.Sprintf("2001:db8:1:2::%x", i+1)); refused == Admitted {
			admitted++
		} else {
			require.Equal(t, Network, refused)
		}
	}
	require.Equal(t, 5, admitted)
	a.mustAdmit("2001:db8:1:3::1")
	a.mustAdmit("192.0.2.1")
	a.mustAdmit("192.0.2.2")
	require.Equal(t, NetworkOf(netip.MustParseAddr("192.0.2.1")), NetworkOf(netip.MustParseAddr("::ffff:192.0.2.1")))
}

// B3: with more networks than are remembered, a network must neither escape its limits nor be subtracted without
// having been counted.
func TestEveryNetworkIsCountedHoweverManyThereAre(t *testing.T) {
	a := newTable(t, Limits{Waiting: 2 * maxIdle, PerNetwork: 2, NetworkRate: 1e6})
	for i := range maxIdle + 10 {
		a.mustAdmit(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String())
	}
	late := a.mustAdmit("192.0.2.1")
	a.mustAdmit("192.0.2.1")
	_, refused := a.admit("192.0.2.1")
	require.Equal(t, Network, refused)
	a.Closed(&late.Entry, a.now)
	a.mustAdmit("192.0.2.1")
	_, refused = a.admit("192.0.2.1")
	require.Equal(t, Network, refused)
}

func TestNetworksAreForgottenWhenTheyHoldNothing(t *testing.T) {
	a := newTable(t, Limits{Waiting: 100, NetworkRate: 2})
	var all []*client
	for i := range 10 {
		all = append(all, a.mustAdmit(fmt.Sprintf("192.0.2.%d", i)))
	}
	for _, c := range all {
		a.Closed(&c.Entry, a.now)
	}
	require.Len(t, a.networks.byAddr, 10, "their rate is remembered")
	a.mustAdmit("192.0.2.1")
	_, refused := a.admit("192.0.2.1")
	require.Equal(t, NetworkRate, refused)
	a.now = a.now.Add(time.Second)
	a.Forget(a.now)
	require.Len(t, a.networks.byAddr, 1)
	require.Zero(t, a.networks.idle)
	a.mustAdmit("192.0.2.1")
}

func TestIdleNetworksAreBounded(t *testing.T) {
	a := newTable(t, Limits{Waiting: 100, NetworkRate: 1})
	for i := range maxIdle + 100 {
		c := a.mustAdmit(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String())
		a.now = a.now.Add(-time.Millisecond) // all at once
		a.Closed(&c.Entry, a.now)
	}
	require.Equal(t, maxIdle, a.networks.idle)
	require.Len(t, a.networks.byAddr, maxIdle)
}

// B2
func TestSilentConnectionsHaveLessTimeUnderPressure(t *testing.T) {
	for _, at := range []struct {
		waiting  int
		patience time.Duration
	}{{1, 10 * time.Second}, {50, 10 * time.Second}, {75, 6 * time.Second}, {100, 2 * time.Second}} {
		a := newTable(t, Limits{Waiting: 100})
		busy := a.mustAdmit("192.0.2.1")
		a.Busy(&busy.Entry, a.now)
		for range at.waiting - 1 {
			a.mustAdmit("192.0.2.2")
		}
		require.Empty(t, a.Late(nil, a.now.Add(at.patience-time.Second)), at)
		late := a.Late(nil, a.now.Add(at.patience))
		if at.patience < 10*time.Second {
			require.Len(t, late, at.waiting-1, at)
			require.NotContains(t, late, Conn(busy))
		} else {
			require.Len(t, late, at.waiting)
		}
	}
}

func TestLoopbackIsExemptFromItsLimitsButNotFromFairness(t *testing.T) {
	a := newTable(t, Limits{Waiting: 10, PerNetwork: 2, NetworkRate: 2, Exempt: netip.Addr.IsLoopback})
	honest := a.mustAdmit("192.0.2.1")
	for range 30 {
		a.mustAdmit("127.0.0.1")
	}
	require.False(t, honest.gone)
	conns, _ := a.Counts()
	require.Equal(t, 10, conns)
}

func TestARateOfAllIsGivenBackToNobody(t *testing.T) {
	a := newTable(t, Limits{Waiting: 100, Rate: 3, PerNetwork: 1})
	a.mustAdmit("192.0.2.1")
	_, refused := a.admit("192.0.2.1")
	require.Equal(t, Network, refused, "and not charged to all")
	a.mustAdmit("192.0.2.2")
	a.mustAdmit("192.0.2.3")
	c, refused := a.admit("192.0.2.4")
	require.Equal(t, Rate, refused)
	a.Closed(&c.Entry, a.now) // an owner may call it without checking
	a.Drain()
	_, refused = a.admit("192.0.2.5")
	require.Equal(t, Draining, refused)
	conns, waiting := a.Counts()
	require.Equal(t, []int{3, 3}, []int{conns, waiting})
}

func TestAnEntryThatIsEvictedBeforeItIsBoundSaysSo(t *testing.T) {
	a := newTable(t, Limits{Waiting: 1})
	var e Entry
	_, reached, ok := a.Admit(&e, netip.MustParseAddr("192.0.2.1"), a.now)
	require.True(t, ok)
	require.Equal(t, Admitted, reached)
	a.mustAdmit("192.0.2.2")
	require.False(t, a.Bind(&e, &client{}))
	a.Closed(&e, a.now)
	conns, waiting := a.Counts()
	require.Equal(t, []int{1, 1}, []int{conns, waiting})
}

// B1, B3
func TestANetworkAtItsBoundDisplacesItsOwn(t *testing.T) {
	a := newTable(t, Limits{Connections: 6, Waiting: 6, PerNetwork: 4, DisplaceOwn: true, Exempt: netip.Addr.IsLoopback})
	one := a.mustAdmit("192.0.2.1")
	a1, a2, a3, a4 := a.mustAdmit("2001:db8::1"), a.mustAdmit("2001:db8::2"), a.mustAdmit("2001:db8::3:3"), a.mustAdmit("2001:db8::4")
	two := a.mustAdmit("192.0.2.2")
	require.False(t, one.gone || a1.gone)

	a5 := a.mustAdmit("2001:db8::5")
	require.True(t, a1.gone, "the fifth of a /64 displaces the first, though others are older")
	require.False(t, one.gone)
	three := a.mustAdmit("192.0.2.3")
	require.True(t, a2.gone, "the network with most gives way")

	require.True(t, a.Authenticated(&a3.Entry))
	require.False(t, a.Authenticated(&a2.Entry), "it was evicted")
	four := a.mustAdmit("192.0.2.4")
	require.True(t, a4.gone, "one that waits no longer stays")
	all := []*client{one, two, three, four, a5}
	for _, c := range all {
		require.False(t, c.gone)
		require.True(t, a.Authenticated(&c.Entry))
	}
	_, refused := a.admit("192.0.2.5")
	require.Equal(t, Full, refused, "none of them waits")
	require.Nil(t, a.Displace())

	for _, c := range append(all, a3) {
		a.Closed(&c.Entry, a.now)
	}
	var bound []*client
	for range 4 {
		c := a.mustAdmit("192.0.2.1")
		a.Authenticated(&c.Entry)
		bound = append(bound, c)
	}
	_, refused = a.admit("192.0.2.1")
	require.Equal(t, Network, refused, "none of its own waits")
	for _, c := range bound {
		a.Closed(&c.Entry, a.now)
	}
	var exempt []*client
	for range 6 {
		exempt = append(exempt, a.mustAdmit("127.0.0.1"))
	}
	require.False(t, exempt[0].gone)
	require.Equal(t, Conn(exempt[0]), a.Displace())
}
