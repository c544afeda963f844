package group

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestEachMemberGetsEachRowWhateverHappens checks the promise of the package: rows, joins, removals, logins, logouts,
// failures and data loss of Redis, failures of SQL, broken links and restarts of nodes happen in any order. At the
// end each logged-in client has all rows that its user may read, by push or by asking, and no client was pushed any
// other row.
func TestEachMemberGetsEachRowWhateverHappens(t *testing.T) {
	seeds := uint64(60)
	if raceEnabled {
		seeds = 12
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inWorld(t, seed, func(t *testing.T, w *world) { w.mix(t, int(seed)) })
		})
	}
}

func (w *world) mix(t *testing.T, seed int) {
	const users, groups = 8, 3
	names := []string{"a", "b", "c"}
	for _, name := range names {
		w.start(name)
	}
	w.set(func() { w.slow = []time.Duration{0, 5 * time.Millisecond, 300 * time.Millisecond}[seed%3] })
	any := func() *node { n, _ := w.node(names[w.n(len(names))]); return n }
	for step := range 250 {
		thread, uid := int64(w.n(groups)+1), int32(w.n(users)+1)
		switch k := w.n(100); {
		case k < 50:
			n := any()
			w.wg.Go(func() { n.Publish(w.text(thread)) })
		case k < 62:
			n := any()
			w.wg.Go(func() {
				if r, ok := w.join(thread, uid); ok {
					w.pause()
					n.Added([]int32{uid}, r)
				}
			})
		case k < 70:
			n := any()
			w.wg.Go(func() {
				if r, ok := w.remove(thread, uid); ok {
					w.pause()
					n.Added([]int32{uid}, r)
				}
			})
		case k < 80:
			n := any()
			w.wg.Go(func() { n.login(uid) })
		case k < 84:
			if all := w.everyone(); len(all) > 0 {
				all[w.n(len(all))].logout()
			}
		case k < 87 && seed%2 == 0:
			w.set(func() { w.redisErr = errAway })
			w.wg.Go(func() {
				time.Sleep(time.Duration(w.n(3000)) * time.Millisecond)
				w.set(func() { w.redisErr = nil })
			})
		case k < 89 && seed%2 == 0:
			w.loseRedis()
		case k < 91 && seed%2 == 0:
			w.set(func() { w.sqlErr = errAway })
			w.wg.Go(func() {
				time.Sleep(time.Duration(w.n(1000)) * time.Millisecond)
				w.set(func() { w.sqlErr = nil })
			})
		case k < 93 && seed%2 == 0:
			n := any()
			w.set(func() { n.down = true })
			w.wg.Go(func() {
				time.Sleep(time.Duration(w.n(3000)) * time.Millisecond)
				w.set(func() { n.down = false })
			})
		case k < 94 && seed%2 == 0 && step < 200:
			old := any()
			w.start(old.name)
			old.end()
		default:
			for _, c := range w.everyone() {
				w.wg.Go(c.follow)
			}
		}
		if w.n(3) == 0 {
			time.Sleep(time.Duration(w.n(400)) * time.Millisecond)
		}
	}
	// Wait for all owed notices, for the longest wait of the package; then the clients have asked.
	for range 10 {
		time.Sleep(10 * time.Second)
		for _, c := range w.everyone() {
			c.follow()
		}
	}
	for _, c := range w.everyone() {
		for thread := int64(1); thread <= groups; thread++ {
			from, to := w.readable(thread, c.uid)
			for seq := from; seq <= to; seq++ {
				require.NotZero(t, c.rows[thread][seq], "user %d on %s lacks row %d of group %d, which it may read from %d to %d", c.uid, c.n.name, seq, thread, from, to)
			}
		}
	}
	for _, name := range names {
		n, _ := w.node(name)
		require.Zero(t, n.Owed())
	}
}

// loseRedis restarts Redis without its data: each node notices when it next extends its lease.
func (w *world) loseRedis() {
	w.set(func() {
		clear(w.hash)
		w.unsettled = time.Now().Add(6 * time.Second)
	})
	for _, name := range w.others("") {
		n, _ := w.node(name)
		w.wg.Go(func() {
			time.Sleep(time.Duration(w.n(3000)) * time.Millisecond)
			n.Rewrite()
		})
	}
}
