package gate

import (
	"sync"
	"time"

	"parley/internal/recent"
)

// logins remembers for a while which password was proven for which stored hash, so that many clients that return at
// once do not need a hash each. It holds no passwords: a key is an HMAC, with a key of this process, over address,
// password and stored hash. Because the key includes the stored hash, an entry becomes useless as soon as the
// password is changed anywhere in the cluster. It is safe for concurrent use.
type logins struct {
	secret []byte
	ttl    time.Duration
	now    func() time.Time

	mu   sync.Mutex // guards the following
	seen *recent.Map[[32]byte, remembered]
}

type remembered struct {
	uid   int32
	until time.Time
}

func newLogins(secret []byte, ttl time.Duration, limit int) *logins {
	return &logins{secret: secret, ttl: ttl, now: time.Now, seen: recent.New[[32]byte, remembered](limit)}
}

func (l *logins) key(email, passwd, stored string) [32]byte {
	return mac(l.secret, "login", email, passwd, stored)
}

// note records a proven password.
func (l *logins) note(uid int32, email, passwd, stored string) {
	if l.ttl <= 0 {
		return
	}
	key := l.key(email, passwd, stored)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen.Put(key, remembered{uid, l.now().Add(l.ttl)})
}

// proven reports whether the password was proven within the last ttl.
func (l *logins) proven(uid int32, email, passwd, stored string) bool {
	if l.ttl <= 0 {
		return false
	}
	key := l.key(email, passwd, stored)
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.seen.Get(key)
	if ok && l.now().After(r.until) {
		l.seen.Delete(key)
		return false
	}
	return ok && r.uid == uid
}

// forget drops all entries of a user.
func (l *logins) forget(uid int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, r := range l.seen.All() {
		if r.uid == uid {
			l.seen.Delete(key)
		}
	}
}
