package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/presence"
	"parley/kitex_gen/message"
)

// placed collects placements from many goroutines.
type placed struct {
	mu      sync.Mutex // guards the following
	counts  map[string]int
	tickets []client.Ticket
}

func (p *placed) add(node string, ticket client.Ticket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.counts == nil {
		p.counts = make(map[string]int)
	}
	p.counts[node]++
	p.tickets = append(p.tickets, ticket)
}

// requireEven fails if a node has 5 % more or fewer than its share.
func requireEven(t testing.TB, what string, counts map[string]int, nodes, total int) {
	t.Helper()
	require.Len(t, counts, nodes, what)
	for node, n := range counts {
		require.InEpsilon(t, float64(total)/float64(nodes), n, 0.05, "%s: %s of %v", what, node, counts)
	}
}

// storm requests n placements at once, alternating between the status nodes, with a call per user.
func (w *world) storm(t testing.TB, first int32, n int) *placed {
	var p placed
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			node, ticket, err := w.place(t.Context(), i%len(w.status), first+int32(i))
			if err != nil {
				t.Error(err)
				return
			}
			p.add(node, ticket)
		})
	}
	wg.Wait()
	return &p
}

// batch requests n placements with concurrent calls, one per status node.
func (w *world) batch(t testing.TB, first int32, n int) *placed {
	var p placed
	var wg sync.WaitGroup
	share := n / len(w.status)
	for i, s := range w.status {
		wg.Go(func() {
			uids := make([]int32, share)
			for j := range uids {
				uids[j] = first + int32(i*share+j)
			}
			rsp, err := s.GetChatServers(t.Context(), &message.GetChatServersReq{Uids: uids})
			if err != nil || rsp.Error != 0 || len(rsp.Replies) != share {
				t.Errorf("GetChatServers: %v, %+v", err, rsp)
				return
			}
			for j, r := range rsp.Replies {
				p.add(r.Node, client.Ticket{Addr: r.Host + ":" + r.Port, UID: uids[j], Token: r.Token})
			}
		})
	}
	wg.Wait()
	return &p
}

func TestThousandPlacementsAtOnceAreEven(t *testing.T) {
	w := sharedCluster(t)
	w.quiet(t)
	p := w.storm(t, 1_000_000, 1000)
	requireEven(t, "one call each", p.counts, 3, 1000)
	p = w.batch(t, 1_001_000, 1000)
	requireEven(t, "two calls of 500", p.counts, 3, 1000)
}

func TestPlacementsStayEvenWhileLoginsArriveAndFail(t *testing.T) {
	w := sharedCluster(t)
	w.quiet(t)
	first := w.users(t, 300)
	before := w.batch(t, first, 300)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	var conns []*client.Conn
	defer func() { // also after a failure: later tests wait for an empty cluster
		for _, c := range conns {
			c.Close()
			<-c.Done()
		}
	}()

	// A third of the placed users logs in and stays or leaves, a third fails with a wrong token, and a third never
	// comes.
	var logins sync.WaitGroup
	slots := make(chan struct{}, 16)
	failures := make(chan string, len(before.tickets))
	rnd := rand.New(rand.NewPCG(1, 2))
	rnd.Shuffle(len(before.tickets), func(i, j int) {
		before.tickets[i], before.tickets[j] = before.tickets[j], before.tickets[i]
	})
	for i, ticket := range before.tickets {
		if i%3 == 2 {
			continue
		}
		logins.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if i%3 == 1 {
				ticket.Token = presence.NewToken()
				_, err := client.Dial(ctx, ticket, client.Options{})
				if client.CodeOf(err) != client.CodeTokenInvalid {
					failures <- fmt.Sprintf("a wrong token gave %v", err)
				}
				return
			}
			c, err := client.Dial(ctx, ticket, client.Options{})
			if err != nil {
				failures <- err.Error()
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		})
	}
	defer logins.Wait()
	total := make(map[string]int)
	for i := range 10 {
		for node, n := range w.storm(t, 2_000_000+int32(i)*100, 100).counts {
			total[node] += n
		}
	}
	logins.Wait()
	close(failures)
	for f := range failures {
		t.Error(f)
	}
	requireEven(t, "placements during the logins", total, 3, 1000)
	require.Len(t, conns, 100)

	// The load after that must be even too.
	requireEven(t, "placements after the logins", w.storm(t, 2_100_000, 1000).counts, 3, 1000)
}

func TestPlacementIsRefusedForNobody(t *testing.T) {
	w := sharedCluster(t)
	for _, uid := range []int32{0, -1} {
		_, _, err := w.place(t.Context(), 0, uid)
		require.ErrorContains(t, err, "1011")
	}
	rsp, err := w.status[0].GetChatServers(t.Context(), &message.GetChatServersReq{Uids: make([]int32, 1001)})
	require.NoError(t, err)
	require.EqualValues(t, client.CodeBadRequest, rsp.Error)
}
