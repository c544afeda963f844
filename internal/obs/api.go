package obs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// ActionHeader must be sent with every action. A web page of another origin cannot send it: its browser would first ask
// this listener, which does not allow it.
const ActionHeader = "Parley-Action"

// NewRequest returns a request to the API of a status node, with in as its body in JSON, unless in is nil. token is [Ops] Token, ""
// without one.
func NewRequest(ctx context.Context, method, url, token string, in any) (*http.Request, error) {
	var body io.Reader
	if in != nil {
		sent, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(sent)
	}
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if method == http.MethodPost {
		r.Header.Set(ActionHeader, "1")
	}
	return r, nil
}

// maxActionBytes bounds the body of an action.
const maxActionBytes = 16 << 10

func newRefused(reg prometheus.Registerer) *prometheus.CounterVec {
	return promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "parley_obs_api_refused_total", Help: "Requests to /api that were refused, by reason: token, host, origin.",
	}, []string{"reason"})
}

// Handle serves pattern without any check of the caller. It must be called before Run.
func (o *Ops) Handle(pattern string, h http.Handler) { o.mux.Handle(pattern, h) }

// HandleAPI serves a pattern below /api to callers that may see it: those that send [Ops] Token, and without a token those on
// this machine if the listener is on loopback. It must be called before Run.
func (o *Ops) HandleAPI(pattern string, h http.HandlerFunc) {
	o.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if o.mayUse(w, r) {
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			h(w, r)
		}
	})
}

// HandleAction is HandleAPI for a request that changes something. It also refuses what a web page of another origin could
// have its reader's browser send.
func (o *Ops) HandleAction(pattern string, h http.HandlerFunc) {
	o.HandleAPI(pattern, func(w http.ResponseWriter, r *http.Request) {
		if !sameOrigin(r) {
			o.refuse(w, http.StatusForbidden, "origin", "an action needs the header "+ActionHeader+", and no Origin but this server's")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxActionBytes)
		h(w, r)
	})
}

// mayUse reports whether a caller may use /api, and answers it if not.
func (o *Ops) mayUse(w http.ResponseWriter, r *http.Request) bool {
	if token := o.token.Load(); token != nil && *token != "" {
		if !hasToken(r, *token) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			o.refuse(w, http.StatusUnauthorized, "token", "send [Ops] Token as Authorization: Bearer TOKEN")
			return false
		}
		return true
	}
	if !isLoopback(r.RemoteAddr) || !isLoopback(o.Addr()) {
		o.refuse(w, http.StatusForbidden, "token", "set [Ops] Token: without it, /api answers callers on this machine, on a loopback listener")
		return false
	}
	// A name that leads here may be a stranger's, whose page would then count as ours (DNS rebinding).
	if host := hostOf(r.Host); host != "localhost" && net.ParseIP(host) == nil {
		o.refuse(w, http.StatusForbidden, "host", "without [Ops] Token, use an address or localhost in the URL")
		return false
	}
	return true
}

func (o *Ops) refuse(w http.ResponseWriter, status int, reason, text string) {
	o.refused.WithLabelValues(reason).Inc()
	WriteError(w, status, text)
}

// sameOrigin reports whether a request was not made by a page of another origin.
func sameOrigin(r *http.Request) bool {
	if r.Header.Get(ActionHeader) == "" {
		return false
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		return false
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true // no browser
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// hasToken reports whether a request carries the token.
func hasToken(r *http.Request, token string) bool {
	sent, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	want, got := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(sent)) // of one length, however long what was sent is
	return ok && subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

// isLoopback reports whether addr, host:port, is of this machine alone.
func isLoopback(addr string) bool { return net.ParseIP(hostOf(addr)).IsLoopback() }

// hostOf returns the host of host, host:port, or [host]:port.
func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return strings.Trim(addr, "[]")
}

// WriteJSON answers a request with v.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the caller left
}

// WriteError answers a request with {"error": text}.
func WriteError(w http.ResponseWriter, status int, text string) {
	WriteJSON(w, status, map[string]string{"error": text})
}
