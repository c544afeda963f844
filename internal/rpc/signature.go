package rpc

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"parley/internal/recent"
)

// Names of the metadata that authenticates a call. It travels as gRPC metadata or as TTHeader's transient metainfo.
const (
	HeaderTo    = "parley-to"    // the callee's name, which a refusal tells; UnknownCallee asks for it
	HeaderBody  = "parley-body"  // hex SHA-256 of the request's body
	HeaderTime  = "parley-ts"    // seconds since 1970, decimal
	HeaderNonce = "parley-nonce" // 1 to 64 bytes, unique within the window
	HeaderSig   = "parley-sig"   // hex HMAC-SHA256 with the cluster secret over the canonical bytes
)

// UnknownCallee is the value of HeaderTo in a call that asks for the callee's name. No process uses it as its name.
const UnknownCallee = "?"

const (
	authWindow = 30 // seconds that clock differences and delays may add up to, in either direction
	// maxNonces bounds the replay cache at about 50 MiB, or 60 s of 17,000 calls per second. Beyond it calls are
	// refused, because a cache that evicts nonces would let replays through.
	maxNonces   = 1 << 20
	maxNonceLen = 64
	// maxCallees is the number of addresses whose callee is remembered. Forgetting one costs one more exchange.
	maxCallees = 4096
)

// An Auth signs calls and checks signatures with a secret shared by all nodes of a cluster. A signature is valid
// once, at one process, for one method and one body. It protects against strangers and recorded calls. It does not
// encrypt, and replies are not signed.
//
// NewAuth makes a random callee name and an empty memory of nonces together. A recorded call is therefore useless at
// every other process, and also at the same one after a restart, whatever the clocks say. A caller learns the
// callee's name from the callee, which refuses a call to another name and tells its own.
//
// A nil *Auth signs nothing and accepts everything. An Auth is safe for concurrent use; one serves all servers and
// clients of a node.
type Auth struct {
	secret []byte
	now    func() time.Time
	name   string // of this process as a callee
	prefix string // of this process' nonces
	count  atomic.Uint64
	limit  int // of total

	mu     sync.Mutex                    // guards the following
	seen   map[int64]map[string]struct{} // nonces by the second of their signature
	total  int
	oldest int64 // no second in seen is smaller

	calleesMu sync.Mutex                  // guards the following
	callees   *recent.Map[string, string] // name of the process that last answered at an address
}

// NewAuth returns an Auth, or nil when secret is empty.
func NewAuth(secret string) *Auth {
	if secret == "" {
		return nil
	}
	var random [28]byte
	_, _ = rand.Read(random[:]) // never fails
	return &Auth{
		secret: []byte(secret), now: wallClock, limit: maxNonces,
		name: hex.EncodeToString(random[:16]), prefix: hex.EncodeToString(random[16:]),
		seen: map[int64]map[string]struct{}{}, callees: recent.New[string, string](maxCallees),
	}
}

// signature returns the HMAC over the canonical bytes. service is without its package, as in "StatusService".
func (a *Auth) signature(to, service, method, body, ts, nonce string) []byte {
	mac := hmac.New(sha256.New, a.secret)
	mac.Write([]byte("parley-rpc-2\n" + to + "\n" + service + "/" + method + "\n" + body + "\n" + ts + "\n" + nonce))
	return mac.Sum(nil)
}

// Sign returns the metadata for one call of the process named to, keyed by the Header names. body is the encoded
// request without framing. Sign is for callers without Kitex; a Client signs its own calls. It returns nil for a nil
// *Auth.
func (a *Auth) Sign(to, service, method string, body []byte) map[string]string {
	if a == nil {
		return nil
	}
	return a.sign(to, service, method, digestOf(body))
}

func (a *Auth) sign(to, service, method, digest string) map[string]string {
	if to == UnknownCallee {
		return map[string]string{HeaderTo: UnknownCallee} // enough for the callee to tell its name
	}
	ts := strconv.FormatInt(a.now().Unix(), 10)
	nonce := a.prefix + strconv.FormatUint(a.count.Add(1), 36)
	sig := hex.EncodeToString(a.signature(to, service, method, digest, ts, nonce))
	return map[string]string{HeaderTo: to, HeaderBody: digest, HeaderTime: ts, HeaderNonce: nonce, HeaderSig: sig}
}

// digestOf returns the value of HeaderBody.
func digestOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Check returns nil if the headers were signed with the secret for this process, this call and a body with that
// digest, within the window, and have not been seen before. The caller must still compare the digest in HeaderBody
// with the digest of the body.
func (a *Auth) Check(service, method string, header func(name string) string) *Refusal {
	if a == nil {
		return nil
	}
	to, body, ts, nonce, sig := header(HeaderTo), header(HeaderBody), header(HeaderTime), header(HeaderNonce), header(HeaderSig)
	if to == "" && nonce == "" && sig == "" {
		return &Refusal{Reason: ReasonUnsigned}
	}
	if to != a.name {
		// Telling the name is safe: a signature for it is valid once and for one body.
		return &Refusal{Reason: ReasonCallee, Detail: a.name}
	}
	second, err := strconv.ParseInt(ts, 10, 64)
	got, hexErr := hex.DecodeString(sig)
	if err != nil || hexErr != nil || nonce == "" || len(nonce) > maxNonceLen || len(body) != 2*sha256.Size {
		return &Refusal{Reason: ReasonMalformed}
	}
	if !hmac.Equal(got, a.signature(to, service, method, body, ts, nonce)) {
		return &Refusal{Reason: ReasonSignature} // checked before the clock, so that a stranger learns nothing about it
	}
	now := a.now().Unix()
	switch {
	case second < now-authWindow:
		return &Refusal{Reason: ReasonClock, Detail: fmt.Sprintf("%d s behind", now-second)}
	case second > now+authWindow:
		return &Refusal{Reason: ReasonClock, Detail: fmt.Sprintf("%d s ahead", second-now)}
	}
	return a.remember(second, nonce, now)
}

// remember records a nonce, and refuses one already used in the same second. Nonces are kept by the second of their
// signature, so that a whole set is dropped when its second leaves the window.
func (a *Auth) remember(second int64, nonce string, now int64) *Refusal {
	a.mu.Lock()
	defer a.mu.Unlock()
	if limit := now - authWindow; a.oldest < limit {
		for s, nonces := range a.seen { // at most 61 seconds
			if s < limit {
				a.total -= len(nonces)
				delete(a.seen, s)
			}
		}
		a.oldest = limit
	}
	nonces := a.seen[second]
	if _, used := nonces[nonce]; used {
		return &Refusal{Reason: ReasonReplay}
	}
	if a.total >= a.limit {
		return &Refusal{Reason: ReasonFull}
	}
	if nonces == nil {
		nonces = map[string]struct{}{}
		a.seen[second] = nonces
	}
	nonces[nonce] = struct{}{}
	a.total++
	return nil
}

// calleeAt returns the name of the process that last answered at addr, or UnknownCallee.
func (a *Auth) calleeAt(addr string) string {
	a.calleesMu.Lock()
	defer a.calleesMu.Unlock()
	if name, ok := a.callees.Get(addr); ok {
		return name
	}
	return UnknownCallee
}

func (a *Auth) learn(addr, name string) {
	a.calleesMu.Lock()
	defer a.calleesMu.Unlock()
	a.callees.Put(addr, name)
}
