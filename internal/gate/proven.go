package gate

import (
	"sync"
	"time"

	"parley/internal/recent"
)

// proofs remembers for a while which password was proven for which stored hash, so that many clients that return at
// once do not need a hash each. It holds no passwords: a key is an HMAC, with a key of this process, over address,
// password and stored hash. Because the key includes the stored hash, an entry becomes useless as soon as the
// password is changed anywhere in the cluster. It is safe for concurrent use.
type proofs struct {
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

func newProofs(secret []byte, ttl time.Duration, limit int) *proofs {
	return &proofs{secret: secret, ttl: ttl, now: time.Now, seen: recent.New[[32]byte, remembered](limit)}
}

func (p *proofs) key(email, passwd, stored string) [32]byte {
	return mac(p.secret, "login", email, passwd, stored)
}

// note records a proven password.
func (p *proofs) note(uid int32, email, passwd, stored string) {
	if p.ttl <= 0 {
		return
	}
	key := p.key(email, passwd, stored)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen.Put(key, remembered{uid, p.now().Add(p.ttl)})
}

// proven reports whether the password was proven within the last ttl.
func (p *proofs) proven(uid int32, email, passwd, stored string) bool {
	if p.ttl <= 0 {
		return false
	}
	key := p.key(email, passwd, stored)
	p.mu.Lock()
	defer p.mu.Unlock()
	r, ok := p.seen.Get(key)
	if ok && p.now().After(r.until) {
		p.seen.Delete(key)
		return false
	}
	return ok && r.uid == uid
}

// forget drops all entries of a user.
func (p *proofs) forget(uid int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, r := range p.seen.All() {
		if r.uid == uid {
			p.seen.Delete(key)
		}
	}
}
