package gate

import (
	"net/http"
	"slices"
	"strings"

	"parley/internal/config"
)

// preflightAge is how long a browser may cache the answer to a preflight request, in seconds; the maximum of
// Chromium.
const preflightAge = "7200"

// origins are the origins of pages that may read the gate's answers: * for all, else SCHEME://HOST[:PORT] as browsers
// write it.
type origins []string

// allow tells the browser whether the page may read the answer.
func (o origins) allow(h http.Header, r *http.Request) {
	if slices.Contains(o, "*") {
		h.Set("Access-Control-Allow-Origin", "*")
		return
	}
	h.Add("Vary", "Origin")
	if origin := r.Header.Get("Origin"); slices.Contains(o, origin) {
		h.Set("Access-Control-Allow-Origin", origin)
	}
}

// preflight answers the request that a browser makes before it posts JSON to another origin.
func (a *api) preflight(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Allow", "OPTIONS, POST")
	if h.Get("Access-Control-Allow-Origin") != "" {
		h.Set("Access-Control-Allow-Methods", http.MethodPost)
		h.Set("Access-Control-Allow-Headers", "Content-Type")
		h.Set("Access-Control-Max-Age", preflightAge)
	}
	a.plain(w, http.StatusNoContent, "")
}

// validate checks that browsers could send each of the origins.
func (o origins) validate() error {
	for _, origin := range o {
		if origin != "*" && (!config.IsOrigin(origin) || origin != strings.ToLower(origin)) {
			return config.Fault{
				Section: "GateServer", Key: "AllowedOrigins",
				Problem: "has " + origin + ", which is neither * nor SCHEME://HOST[:PORT] in lower case",
			}
		}
	}
	return nil
}
