package presence

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// crowd places many users concurrently, with a call per user, over several Presences.
func crowd(t *testing.T, over []*Presence, users int) map[string][]Placement {
	t.Helper()
	var (
		wg sync.WaitGroup
		mu sync.Mutex
		at = map[string][]Placement{}
	)
	for i := range users {
		wg.Go(func() {
			placed, err := over[i%len(over)].Nodes.Place(t.Context(), []int32{int32(i)})
			if err != nil {
				t.Errorf("place: %v", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			at[placed[0].Node] = append(at[placed[0].Node], placed[0])
		})
	}
	wg.Wait()
	return at
}

func requireEven(t *testing.T, what string, counts map[string]int, nodes int) {
	t.Helper()
	total := 0
	for _, c := range counts {
		total += c
	}
	require.Len(t, counts, nodes, what)
	for name, c := range counts {
		require.InEpsilon(t, float64(total)/float64(nodes), c, 0.05, "%s: %s has %d of %d", what, name, c, total)
	}
}

func TestPlacementsAtOnceAreEven(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		for nodes := 2; nodes <= 3; nodes++ {
			over := []*Presence{b.open(t, Options{}), b.open(t, Options{})}
			flushAll(t, over[0].rdb)
			for i := range nodes {
				startNode(t, over[0], fmt.Sprint("n", i))
			}
			over[0].Nodes.view.Store(&View{})
			counts, tokens := map[string]int{}, map[string]bool{}
			for name, placed := range crowd(t, over, 1000) {
				counts[name] = len(placed)
				for _, pl := range placed {
					require.Equal(t, name+":8090", pl.ClientAddr)
					tokens[pl.Token] = true
				}
			}
			requireEven(t, "1,000 calls", counts, nodes)
			require.Len(t, tokens, 1000)

			clear(counts)
			placed, err := over[1].Nodes.Place(t.Context(), make([]int32, 2500))
			require.NoError(t, err)
			require.Len(t, placed, 2500)
			for _, pl := range placed {
				counts[pl.Node]++
			}
			requireEven(t, "one call", counts, nodes)
		}
	})
}

// load returns the load used for placement: reported sessions and live reservations.
func load(t *testing.T, p *Presence, nodes int) map[string]int {
	t.Helper()
	now, err := p.rdb.Time(t.Context()).Result()
	require.NoError(t, err)
	out := map[string]int{}
	for i := range nodes {
		name := fmt.Sprint("n", i)
		count, err := p.rdb.HGet(t.Context(), keyLoginCount, name).Int()
		require.NoError(t, err)
		reserved, err := p.rdb.ZRangeWithScores(t.Context(), p.keys.reserve(name), 0, -1).Result()
		require.NoError(t, err)
		for _, r := range reserved {
			if r.Score > float64(now.UnixMilli()) {
				count++
			}
		}
		out[name] = count
	}
	return out
}

func TestPlacementsStayEvenWhileLoginsArriveAndFail(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fails func(node string, i int) bool
	}{
		{"all arrive", func(string, int) bool { return false }},
		{"every fourth fails", func(_ string, i int) bool { return i%4 == 3 }},
		{"half of one node's fail", func(node string, i int) bool { return node == "n0" && i%2 == 1 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			on(t, func(t *testing.T, b *backend) {
				const nodes, rounds, users = 2, 5, 200
				over := []*Presence{b.open(t, Options{}), b.open(t, Options{})}
				for i := range nodes {
					startNode(t, over[0], fmt.Sprint("n", i))
				}
				over[0].Nodes.view.Store(&View{})
				sessions := map[string]int{}
				for round := range rounds {
					var reports sync.WaitGroup
					for range 4 {
						batch := crowd(t, over, users/4) // while the reports about the previous batch arrive
						reports.Wait()
						for name, placed := range batch {
							var in []string
							for i, pl := range placed {
								if !tt.fails(name, i) {
									in = append(in, pl.Token)
								}
							}
							sessions[name] += len(in)
							count := sessions[name]
							reports.Go(func() {
								if err := over[0].Leases.ReportLoad(t.Context(), name, count, in); err != nil {
									t.Errorf("report: %v", err)
								}
							})
						}
					}
					reports.Wait()
					requireEven(t, fmt.Sprint("load after round ", round), load(t, over[0], nodes), nodes)
					lapse(t, over[0], nodes)
				}
				require.Equal(t, sessions, load(t, over[0], nodes), "all reservations lapsed or became sessions")
			})
		})
	}
}

// lapse expires the reservations of failed logins now.
func lapse(t *testing.T, p *Presence, nodes int) {
	t.Helper()
	for i := range nodes {
		key := p.keys.reserve(fmt.Sprint("n", i))
		members, err := p.rdb.ZRangeWithScores(t.Context(), key, 0, -1).Result()
		require.NoError(t, err)
		for _, m := range members {
			m.Score -= float64(time.Hour.Milliseconds())
			require.NoError(t, p.rdb.ZAdd(t.Context(), key, m).Err())
		}
	}
}

func TestReservationsLapse(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{Reserve: 200 * time.Millisecond})
		startNode(t, p, "n0")
		_, err := p.Nodes.Place(ctx, make([]int32, 10))
		require.NoError(t, err)
		eventually(t, "reservations lapse by Redis' clock", func() bool { return load(t, p, 1)["n0"] == 0 })
		_, err = p.Nodes.Place(ctx, make([]int32, 450)) // more than one chunk of ZADD
		require.NoError(t, err)
		require.NoError(t, p.Leases.ReportLoad(ctx, "n0", 0, nil))
		eventually(t, "reports sweep what lapsed", func() bool {
			require.NoError(t, p.Leases.ReportLoad(ctx, "n0", 0, nil))
			return p.rdb.Exists(ctx, p.keys.reserve("n0")).Val() == 0
		})
	})
}

func TestReportMovesReservationsIntoTheCount(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx, p := t.Context(), b.open(t, Options{})
		startNode(t, p, "n0")
		placed, err := p.Nodes.Place(ctx, make([]int32, 450))
		require.NoError(t, err)
		var tokens []string
		for _, pl := range placed {
			tokens = append(tokens, pl.Token)
		}
		require.Equal(t, 450, load(t, p, 1)["n0"])
		require.NoError(t, p.Leases.ReportLoad(ctx, "n0", 449, append(tokens[:449:449], "placed elsewhere")))
		require.Equal(t, 450, load(t, p, 1)["n0"])
		require.EqualValues(t, 1, p.rdb.ZCard(ctx, p.keys.reserve("n0")).Val())
		require.NoError(t, p.Leases.ReportLoad(ctx, "n0", 400, tokens))
		require.Equal(t, 400, load(t, p, 1)["n0"])
	})
}

func TestPlacementChooses(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		ctx := t.Context()
		p := b.open(t, Options{})
		place := func(n int) (names []string) {
			t.Helper()
			_, err := p.Nodes.Read(ctx) // not an older view
			require.NoError(t, err)
			placed, err := p.Nodes.Place(ctx, make([]int32, n))
			require.NoError(t, err)
			for _, pl := range placed {
				names = append(names, pl.Node)
			}
			return names
		}
		_, err := p.Nodes.Place(ctx, []int32{7})
		require.ErrorIs(t, err, ErrNoNode)
		none, err := p.Nodes.Place(ctx, nil)
		require.NoError(t, err)
		require.Empty(t, none)

		a, c := startNode(t, p, "a"), startNode(t, p, "c")
		require.NoError(t, p.Leases.ReportLoad(ctx, "dead", 0, nil))
		require.NoError(t, p.Leases.Take(ctx, Lease{Name: "no-clients", Boot: "b"}, ""))
		require.NoError(t, p.Leases.ReportLoad(ctx, "no-clients", 0, nil))

		require.Equal(t, []string{"a", "c"}, sorted(place(1), place(1)), "two one after the other land apart")
		require.NoError(t, p.Leases.ReportLoad(ctx, "a", 10, nil))
		require.NoError(t, p.Leases.ReportLoad(ctx, "c", 13, nil))
		require.Equal(t, []string{"a", "a", "a"}, place(3), "the least loaded until level")
		// a: 10 + 4 reserved, c: 13 + 1 reserved, a picked last.
		require.Equal(t, []string{"c", "a", "c", "a"}, place(4), "of equals the one picked longest ago")

		a.Draining = true
		_, err = p.Leases.Extend(ctx, a)
		require.NoError(t, err)
		require.Equal(t, []string{"c", "c", "c"}, place(3), "none on a draining node")
		require.NoError(t, p.Leases.Drop(ctx, c))
		_, err = p.Nodes.Read(ctx)
		require.NoError(t, err)
		_, err = p.Nodes.Place(ctx, []int32{7})
		require.ErrorIs(t, err, ErrNoNode, "nor on a dead one")
	})
}

func TestPlacementFindsTheFirstNodeAtOnce(t *testing.T) {
	on(t, func(t *testing.T, b *backend) {
		p := b.open(t, Options{})
		startNode(t, p, "a")
		// It was read before the node came: young enough for a view with nodes, but not for one without.
		p.Nodes.view.Store(&View{at: time.Now().Add(-2 * emptyViewMaxAge)})
		placed, err := p.Nodes.Place(t.Context(), []int32{7})
		require.NoError(t, err)
		require.Equal(t, "a", placed[0].Node)
	})
}

func sorted(lists ...[]string) []string {
	all := slices.Concat(lists...)
	slices.Sort(all)
	return all
}
