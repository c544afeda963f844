package chat

import (
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
)

// silence keeps n connections open that say nothing, from a few loopback addresses, and opens those anew that the node
// closes. It returns when all have connected once; stop ends them.
func silence(t *testing.T, addr string, n int) (stop func()) {
	t.Helper()
	done := make(chan struct{})
	var once, all sync.WaitGroup
	for worker := range 8 {
		once.Add(1)
		all.Go(func() {
			from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+worker%4))}, Timeout: patience}
			conns := make([]net.Conn, n/8)
			defer func() {
				for _, c := range conns {
					if c != nil {
						c.Close()
					}
				}
			}()
			for round := 0; ; round++ {
				for i := range conns {
					select {
					case <-done:
						if round == 0 {
							once.Done()
						}
						return
					default:
					}
					if round > 0 && conns[i] != nil {
						_ = conns[i].SetReadDeadline(time.Now().Add(time.Millisecond))
						if _, err := conns[i].Read(make([]byte, 1)); err != nil && os.IsTimeout(err) {
							continue
						}
						conns[i].Close()
					}
					conns[i], _ = from.Dial("tcp", addr)
				}
				if round == 0 {
					once.Done()
				}
			}
		})
	}
	once.Wait()
	var end sync.Once
	stop = func() { end.Do(func() { close(done); all.Wait() }) }
	t.Cleanup(stop)
	return stop
}

// B2. PARLEY_TEST_SILENT has it done with another number of silent connections, and the default bound.
func TestHonestLoginsPassWhileManyConnectionsStaySilent(t *testing.T) {
	const users = 20
	silent, bound := 1000, 400
	if v := os.Getenv("PARLEY_TEST_SILENT"); v != "" {
		var err error
		silent, err = strconv.Atoi(v)
		require.NoError(t, err)
		bound = DefaultConfig().Limits.Unauthenticated
	}
	f := newFixture(t, users)
	n := f.start("chat1", func(c *Config) { c.Limits.Unauthenticated = bound })
	tickets := make([]client.Ticket, users)
	for i := range tickets {
		tickets[i] = f.ticket(n, i+1)
	}
	stop := silence(t, n.ClientAddr(), silent)
	var logins sync.WaitGroup
	for _, ticket := range tickets {
		logins.Go(func() {
			c, err := client.Dial(t.Context(), ticket, client.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { c.Close() })
		})
	}
	logins.Wait()
	n.awaitSessions(t, users) // each is live a little after its client knows
	require.Positive(t, counterValue(t, n.metrics.evicted))
	stop()
	eventually(t, "the silent ones to be forgotten", func() bool {
		conns, waiting := n.admission.Counts()
		return conns == users && waiting == 0
	})
}
