package rpc

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bytedance/gopkg/cloud/metainfo"
	"github.com/cloudwego/kitex/pkg/endpoint"
	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/transport"
)

// Names of the metadata that authenticates a call: gRPC metadata, or TTHeader's transient metainfo.
const (
	HeaderTime  = "parley-ts"    // seconds since 1970, decimal
	HeaderNonce = "parley-nonce" // 1 to 64 bytes, never used before within the window
	HeaderSig   = "parley-sig"   // hex HMAC-SHA256 with the cluster secret over the canonical bytes
)

const (
	authWindow = 30 // seconds that clocks and delays may add up to, either way
	// maxNonces bounds the replay cache, about 50 MiB: 60 s of 17,000 calls a second. Past it calls are refused, for a cache
	// that forgets would let a replay through.
	maxNonces   = 1 << 20
	maxNonceLen = 64
)

// The reasons for which a call is refused, as metrics and callers see them.
var (
	errUnsigned  = errors.New("unsigned")
	errMalformed = errors.New("malformed")
	errClock     = errors.New("clock")
	errSignature = errors.New("signature")
	errReplay    = errors.New("replay")
	errFull      = errors.New("full")
)

// Auth signs calls and checks signatures with a secret that all nodes of a cluster share. It keeps strangers out; it does
// not encrypt, and the body is not part of what is signed, so it is no help against somebody who can change what is on
// the wire. A nil *Auth signs nothing and accepts everything. It is safe for concurrent use; one serves all servers and
// clients of a node.
type Auth struct {
	secret []byte
	now    func() time.Time
	prefix string // of this process' nonces
	count  atomic.Uint64
	limit  int // of total

	mu     sync.Mutex                    // guards the following
	seen   map[int64]map[string]struct{} // second that was signed -> its nonces
	total  int
	oldest int64 // no key of seen is smaller
}

// NewAuth returns an Auth, or nil when secret is empty.
func NewAuth(secret string) *Auth {
	if secret == "" {
		return nil
	}
	var random [12]byte
	_, _ = rand.Read(random[:]) // never fails
	return &Auth{
		secret: []byte(secret), now: time.Now, prefix: hex.EncodeToString(random[:]), limit: maxNonces,
		seen: map[int64]map[string]struct{}{},
	}
}

// signature is the HMAC over the canonical bytes; service is without its package: "StatusService".
func (a *Auth) signature(service, method, ts, nonce string) []byte {
	mac := hmac.New(sha256.New, a.secret)
	mac.Write([]byte("parley-rpc-1\n" + service + "/" + method + "\n" + ts + "\n" + nonce))
	return mac.Sum(nil)
}

// Sign returns the metadata for one call, keyed by the Header names. It is for callers that do not use Kitex; the others
// have ClientMiddleware. It returns nil for a nil *Auth.
func (a *Auth) Sign(service, method string) map[string]string {
	if a == nil {
		return nil
	}
	ts := strconv.FormatInt(a.now().Unix(), 10)
	nonce := a.prefix + strconv.FormatUint(a.count.Add(1), 36)
	sig := hex.EncodeToString(a.signature(service, method, ts, nonce))
	return map[string]string{HeaderTime: ts, HeaderNonce: nonce, HeaderSig: sig}
}

// Check returns nil when the three headers were made with the secret for this call, lately, and never seen here.
func (a *Auth) Check(service, method, ts, nonce, sig string) error {
	if a == nil {
		return nil
	}
	if ts == "" && nonce == "" && sig == "" {
		return errUnsigned
	}
	second, err := strconv.ParseInt(ts, 10, 64)
	got, hexErr := hex.DecodeString(sig)
	if err != nil || hexErr != nil || nonce == "" || len(nonce) > maxNonceLen {
		return errMalformed
	}
	if !hmac.Equal(got, a.signature(service, method, ts, nonce)) {
		return errSignature // before the clock: a stranger learns nothing about ours
	}
	now := a.now().Unix()
	if second < now-authWindow || second > now+authWindow {
		return errClock
	}
	return a.remember(second, nonce, now)
}

// remember refuses a nonce that was used with the same second. Nonces are kept by the second that was signed, so that a
// whole bucket goes when its second leaves the window.
func (a *Auth) remember(second int64, nonce string, now int64) error {
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
		return errReplay
	}
	if a.total >= a.limit {
		return errFull
	}
	if nonces == nil {
		nonces = map[string]struct{}{}
		a.seen[second] = nonces
	}
	nonces[nonce] = struct{}{}
	a.total++
	return nil
}

// ClientMiddleware signs every call of a Kitex client, retries included.
func (a *Auth) ClientMiddleware() endpoint.Middleware {
	return func(next endpoint.Endpoint) endpoint.Endpoint {
		if a == nil {
			return next
		}
		return func(ctx context.Context, req, resp any) error {
			ri := rpcinfo.GetRPCInfo(ctx)
			grpc := ri.Config().TransportProtocol()&transport.GRPC != 0
			for k, v := range a.Sign(ri.Invocation().ServiceName(), ri.Invocation().MethodName()) {
				if grpc {
					ctx = metadata.AppendToOutgoingContext(ctx, k, v)
				} else {
					ctx = metainfo.WithValue(ctx, k, v)
				}
			}
			return next(ctx, req, resp)
		}
	}
}

// serverMiddleware refuses calls that Check refuses, before their body is looked at where the transport allows it.
func (a *Auth) serverMiddleware(m *Metrics) endpoint.Middleware {
	return func(next endpoint.Endpoint) endpoint.Endpoint {
		if a == nil {
			return next
		}
		return func(ctx context.Context, req, resp any) error {
			ri := rpcinfo.GetRPCInfo(ctx)
			grpc := ri.Config().TransportProtocol()&transport.GRPC != 0
			header := headerOf(ctx, grpc)
			err := a.Check(ri.Invocation().ServiceName(), ri.Invocation().MethodName(),
				header(HeaderTime), header(HeaderNonce), header(HeaderSig))
			if err == nil {
				return next(ctx, req, resp)
			}
			m.refused(err)
			if grpc {
				return status.Err(codes.Unauthenticated, unauthenticated+err.Error())
			}
			return remote.NewTransErrorWithMsg(typeUnauthenticated, unauthenticated+err.Error())
		}
	}
}

// headerOf returns a function that reads the caller's metadata. A gRPC caller's is as it sent it; a Kitex client on gRPC
// sends the same.
func headerOf(ctx context.Context, grpc bool) func(string) string {
	if !grpc {
		return func(name string) string {
			v, _ := metainfo.GetValue(ctx, name)
			return v
		}
	}
	md, _ := metadata.FromIncomingContext(ctx)
	return func(name string) string {
		if v := md.Get(name); len(v) == 1 {
			return v[0]
		}
		return ""
	}
}

// typeUnauthenticated is our own type in a TTHeader exception; Kitex uses numbers below 100.
const typeUnauthenticated = 2401

const unauthenticated = "parley: unauthenticated: "

// IsUnauthenticated reports whether a call failed because the callee did not accept its signature: another secret, a
// clock that is off, or none at all. Such a call was not executed, and will fail again.
func IsUnauthenticated(err error) bool {
	if te, ok := errors.AsType[*remote.TransError](err); ok && te.TypeID() == typeUnauthenticated {
		return true
	}
	st, ok := status.FromError(errors.Unwrap(err))
	if !ok {
		st, ok = status.FromError(err)
	}
	return ok && err != nil && st.Code() == codes.Unauthenticated
}
