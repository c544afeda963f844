package e2e

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/lab/launch"
	"parley/test/rights"
)

// rightsCluster returns two nodes whose users have no rate limits.
func rightsCluster(t *testing.T) *world {
	t.Helper()
	w := ownCluster(t, launch.Options{Race: true, Chat: 2, Configure: func(n *launch.Node, _ int, f *launch.INI) error {
		if n.Role() == launch.Chat {
			f.Set("Limits", "RequestRate", "0")
			f.Set("Limits", "TextRate", "0")
		}
		return nil
	}})
	require.NoError(t, rights.Watch(t.Context(), w.db, true))
	return w
}

var quiet = client.Options{OnEvent: func(client.Event) {}}

func checkRaces(t *testing.T, got rights.Result) {
	t.Helper()
	t.Logf("%+v", got)
	require.Zero(t, got.Late, "texts stored after the change")
	require.Zero(t, got.Allowed, "texts sent after its answer")
	require.Positive(t, got.Stored)
	require.Positive(t, got.Denied)
}

// From the moment a block or the end of a friendship is committed, no text of the other user is stored, on whichever
// node. PARLEY_RIGHTS_RACES sets the number of races, 300 by default; -timeout must be long enough for them.
func TestNothingIsStoredAfterABlock(t *testing.T) {
	w := rightsCluster(t)
	const pairs = 4
	var mu sync.Mutex
	var sum rights.Result
	var wg sync.WaitGroup
	for i := range pairs {
		ann, bob, thread := w.pair(t)
		x, y := w.login(t, ann, i%2, quiet), w.login(t, bob, 1-i%2, quiet)
		wg.Go(func() {
			got, err := rights.Rounds(t.Context(), w.db, x, y, thread, rights.Count(300)/pairs)
			mu.Lock()
			defer mu.Unlock()
			sum.Add(got)
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	checkRaces(t, sum)
}

// The same for the deletion of an account, where either user writes.
func TestNothingIsStoredAfterADeletion(t *testing.T) {
	w := rightsCluster(t)
	var sum rights.Result
	for i := range max(rights.Count(300)/10, 1) {
		ann, bob, thread := w.pair(t)
		from := []int32{ann, bob}[i%2]
		c := w.login(t, from, i%2, quiet)
		got, err := rights.Race(t.Context(), w.db, c, thread, func(ctx context.Context) error {
			_, err := w.store.Users.Delete(ctx, ann, transform(password(ann)))
			return err
		})
		c.Close()
		require.NoError(t, err)
		sum.Add(got)
	}
	checkRaces(t, sum)
}
