package handler

import (
	"sync"
	"time"

	"parley/internal/bucket"
	"parley/internal/recent"
)

// maxRated is how many users a userRates remembers at least.
const maxRated = 32768

// userRates bounds how often something happens to each user: burst times at once, then once per every. Buckets that have
// had the time to fill are forgotten. Make it with newUserRates; it is safe for concurrent use.
type userRates struct {
	burst, every time.Duration // burst is the time in which an empty bucket fills

	mu     sync.Mutex // guards the following
	users  *recent.Map[int32, bucket.Bucket]
	turned time.Time
}

func newUserRates(burst int, every time.Duration) *userRates {
	return &userRates{burst: time.Duration(burst) * every, every: every, users: recent.New[int32, bucket.Bucket](maxRated)}
}

// allow charges a user for one event. It returns false if there were too many.
func (u *userRates) allow(uid int32, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now.Sub(u.turned) >= u.burst {
		u.users.Turn()
		u.turned = now
	}
	rate, _ := u.users.Get(uid) // the zero value is a full bucket
	allowed := rate.Take(now, 1, u.rate(), u.size())
	u.users.Put(uid, rate)
	return allowed
}

// giveBack undoes an allow.
func (u *userRates) giveBack(uid int32, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	rate, known := u.users.Get(uid)
	if !known {
		return // forgotten: full again
	}
	rate.Set(now, min(rate.Left(now, u.rate(), u.size())+1, u.size()))
	u.users.Put(uid, rate)
}

func (u *userRates) rate() float32 { return float32(time.Second) / float32(u.every) }
func (u *userRates) size() float32 { return float32(u.burst / u.every) }
