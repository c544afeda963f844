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

// Names of the metadata that authenticates a call: gRPC metadata, or TTHeader's transient metainfo.
const (
	HeaderTo    = "parley-to"    // the callee's name, which its refusals tell; UnknownCallee asks for it
	HeaderBody  = "parley-body"  // hex SHA-256 of the request's body
	HeaderTime  = "parley-ts"    // seconds since 1970, decimal
	HeaderNonce = "parley-nonce" // 1 to 64 bytes, never used before within the window
	HeaderSig   = "parley-sig"   // hex HMAC-SHA256 with the cluster secret over the canonical bytes
)

// UnknownCallee is the value of HeaderTo in a call that asks the callee for its name. No process has it as its name.
const UnknownCallee = "?"

const (
	authWindow = 30 // seconds that clocks and delays may add up to, either way
	// maxNonces bounds the replay cache, about 50 MiB: 60 s of 17,000 calls per second. Beyond it calls are refused, for a cache
	// that forgets would let a replay through.
	maxNonces   = 1 << 20
	maxNonceLen = 64
	// maxCallees is how many addresses are remembered with their callees. One that was forgotten costs an exchange.
	maxCallees = 4096
)

// Auth signs calls and checks signatures with a secret that all nodes of a cluster share. A signature is good once, at one
// process, for one method and one body. It keeps out strangers and recorded calls; it encrypts nothing, and replies are not
// signed.
//
// The name that a signature is for is random and as old as the memory of nonces: both are made by NewAuth. So a recorded
// call is useless at every other process, and after a restart at the same one, whatever the clocks say. A caller learns the
// name from the callee, which refuses a call to another name and tells its own.
//
// A nil *Auth signs nothing and accepts everything. It is safe for concurrent use; one serves all servers and clients of a
// node.
type Auth struct {
	secret []byte
	now    func() time.Time
	name   string // of this process as a callee
	prefix string // of this process' nonces
	count  atomic.Uint64
	limit  int // of total

	mu     sync.Mutex                    // guards the following
	seen   map[int64]map[string]struct{} // second that was signed -> its nonces
	total  int
	oldest int64 // no key of seen is smaller

	calleesMu sync.Mutex                  // guards the following
	callees   *recent.Map[string, string] // address -> name of the process that answered there last
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

// signature is the HMAC over the canonical bytes; service is without its package: "StatusService".
func (a *Auth) signature(to, service, method, body, ts, nonce string) []byte {
	mac := hmac.New(sha256.New, a.secret)
	mac.Write([]byte("parley-rpc-2\n" + to + "\n" + service + "/" + method + "\n" + body + "\n" + ts + "\n" + nonce))
	return mac.Sum(nil)
}

// Sign returns the metadata for one call of the process called to, keyed by the Header names; body is the request as it
// goes over the wire, without framing. It is for callers that do not use Kitex; a Client signs by itself. It returns nil for
// a nil *Auth.
func (a *Auth) Sign(to, service, method string, body []byte) map[string]string {
	if a == nil {
		return nil
	}
	return a.sign(to, service, method, digestOf(body))
}

func (a *Auth) sign(to, service, method, digest string) map[string]string {
	if to == UnknownCallee {
		return map[string]string{HeaderTo: UnknownCallee} // the callee needs no more to tell its name
	}
	ts := strconv.FormatInt(a.now().Unix(), 10)
	nonce := a.prefix + strconv.FormatUint(a.count.Add(1), 36)
	sig := hex.EncodeToString(a.signature(to, service, method, digest, ts, nonce))
	return map[string]string{HeaderTo: to, HeaderBody: digest, HeaderTime: ts, HeaderNonce: nonce, HeaderSig: sig}
}

// digestOf is the value of HeaderBody.
func digestOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Check returns nil when the headers were made with the secret, for this process, this call and a body of that digest,
// lately, and were never seen here. The caller has still to compare the digest in HeaderBody with the body's.
func (a *Auth) Check(service, method string, header func(name string) string) *Refusal {
	if a == nil {
		return nil
	}
	to, body, ts, nonce, sig := header(HeaderTo), header(HeaderBody), header(HeaderTime), header(HeaderNonce), header(HeaderSig)
	if to == "" && nonce == "" && sig == "" {
		return &Refusal{Reason: ReasonUnsigned}
	}
	if to != a.name {
		// The name is no secret: what is signed for it is good once and for one body.
		return &Refusal{Reason: ReasonCallee, Detail: a.name}
	}
	second, err := strconv.ParseInt(ts, 10, 64)
	got, hexErr := hex.DecodeString(sig)
	if err != nil || hexErr != nil || nonce == "" || len(nonce) > maxNonceLen || len(body) != 2*sha256.Size {
		return &Refusal{Reason: ReasonMalformed}
	}
	if !hmac.Equal(got, a.signature(to, service, method, body, ts, nonce)) {
		return &Refusal{Reason: ReasonSignature} // before the clock: a stranger learns nothing about ours
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

// remember refuses a nonce that was used with the same second. Nonces are kept by the second that was signed, so that a
// whole bucket goes when its second leaves the window.
func (a *Auth) remember(second int64, nonce string, now int64) *Refusal {
	a.mu.Lock()
	defer a.mu.Unlock()
	if limit := now - authWindow; a.oldest < limit {
		for s, nonces := range a.seen { // at most 61 of them
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

// calleeAt returns the name of the process that answered at addr last, or UnknownCallee.
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
