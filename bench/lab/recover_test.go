package lab

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/bench/swarm"
)

// pulseOf returns ten seconds at 100 operations a second with 50 users, modified by change for each tenth.
func pulseOf(change func(k int, offered, done, online *int64)) *pulse {
	p := &pulse{open: true}
	var sum swarm.Tenth
	for k := range 100 {
		offered, done, online := int64(10), int64(10), int64(50)
		change(k, &offered, &done, &online)
		sum.Offered, sum.Done, sum.Online = sum.Offered+offered, sum.Done+done, online
		p.tenths = append(p.tenths, sum)
	}
	return p
}

// TestDetectionAndRecovery accounts for the number of sessions being sampled at the end of a tenth: a user who
// returns within one counts from the next on.
func TestDetectionAndRecovery(t *testing.T) {
	const never = -1
	for _, c := range []struct {
		what              string
		change            func(k int, offered, done, online *int64)
		signs             []swarm.Sign
		open, repair      bool
		detected, recover float64
	}{
		{"nothing happened", func(int, *int64, *int64, *int64) {}, nil, true, false, never, never},
		{"half were away from 3.0 to 4.2 s", func(k int, _, done, online *int64) {
			if k >= 30 && k < 42 {
				*online, *done = 25, 5
			}
		}, []swarm.Sign{{At: time.Second, What: "before"}, {At: 3004 * time.Millisecond, What: "connection lost"}}, true, false, .004, 1.3},
		{"one was away, and nobody else had anything of it", func(k int, _, _, online *int64) {
			if k >= 35 && k < 50 {
				*online = 49
			}
		}, []swarm.Sign{{At: 3510 * time.Millisecond}}, true, false, .51, 2.1},
		{"a stall of two seconds, and nothing failed", func(k int, _, done, _ *int64) {
			if k >= 30 && k < 50 {
				*done = 0
			}
			if k == 50 {
				*done = 210
			}
		}, nil, true, false, never, 2},
		{"the same in a closed loop", func(k int, offered, done, _ *int64) {
			if k >= 30 && k < 50 {
				*offered, *done = 0, 0
			}
		}, nil, false, false, never, 2},
		{"it was never well again", func(k int, _, done, _ *int64) {
			if k >= 40 {
				*done = 8
			}
		}, []swarm.Sign{{At: 4 * time.Second}}, true, false, 1, never},
		{"a repair", func(k int, _, _, online *int64) {
			if k >= 20 && k < 37 {
				*online = 10
			}
		}, []swarm.Sign{{At: 3500 * time.Millisecond}}, true, true, never, .8},
		{"a failure that belongs to the next fault", func(int, *int64, *int64, *int64) {}, []swarm.Sign{{At: 8 * time.Second}}, true, false, never, never},
	} {
		p := pulseOf(c.change)
		p.open, p.signs = c.open, c.signs
		first := 3 * time.Second
		if c.repair {
			first = 2 * time.Second
		}
		p.before(first)
		f := p.fault(3*time.Second, 7*time.Second, c.repair)
		for what, x := range map[string]struct {
			got  *float64
			want float64
		}{"detection": {f.Detection, c.detected}, "recovery": {f.Recovery, c.recover}} {
			if x.want == never {
				require.Nil(t, x.got, "%s: %s", c.what, what)
				continue
			}
			require.NotNil(t, x.got, "%s: %s", c.what, what)
			require.InDelta(t, x.want, *x.got, 1e-6, "%s: %s", c.what, what)
		}
	}
}
