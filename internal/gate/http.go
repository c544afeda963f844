package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"time"
	"unicode/utf8"

	"parley/internal/wire"
)

// request is an HTTP request as seen by a handler.
type request struct {
	body   []byte
	addr   netip.Addr      // client's address; invalid if it could not be parsed
	client context.Context // ends when the client hangs up
}

// handler returns a reply to encode, or an error whose code is sent.
type handler func(context.Context, *request) (any, error)

// route is a handler with its name in metrics.
type route struct {
	name   string
	handle handler
}

// An api answers HTTP requests: it finds the handler of a route, or a file of the chat page.
type api struct {
	*shared
	routes  map[string]route
	page    http.Handler   // nil: there is none
	proxies []netip.Prefix // whose X-Forwarded-For is believed

	flights flights         // requests in flight
	cut     context.Context // ends when they are cut off
	cutOff  context.CancelFunc
}

func newAPI(c *shared, page http.Handler, proxies []netip.Prefix, routes map[string]route) *api {
	a := &api{shared: c, routes: routes, page: page, proxies: proxies}
	a.cut, a.cutOff = context.WithCancel(context.Background())
	return a
}

// failure is the reply to every refused request.
type failure struct {
	Error   wire.Code `json:"error"`
	RetryMS int64     `json:"retry_ms,omitempty"`
}

// later is a refusal with a retry time.
type later struct {
	refusal error // a *wire.Error
	wait    time.Duration
}

func (l *later) Error() string { return l.refusal.Error() }
func (l *later) Unwrap() error { return l.refusal }

func retryLater(code wire.Code, wait time.Duration) error {
	return &later{wire.Refuse(code, nil), wait}
}

// ServeHTTP implements http.Handler.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.flights.add(1)
	defer a.flights.add(-1)
	h := w.Header()
	h.Set("Server", "GateServer")
	h.Set("Connection", "close")
	if a.page != nil && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		a.servePage(w, r)
		return
	}
	origins(a.cfg.Gate.AllowedOrigins).allow(h, r)
	// The target is compared as sent, as in llfcchat: a query string or another spelling of the path is not the
	// route. Clients of a proxy may put http://HOST before it.
	target := r.RequestURI
	if r.URL.IsAbs() {
		target = r.URL.RequestURI()
	}
	rt, ok := a.routes[target]
	switch {
	case ok && r.Method == http.MethodOptions:
		a.preflight(w)
		return
	case !ok, r.Method != http.MethodPost:
		a.plain(w, http.StatusNotFound, "url not found\r\n")
		return
	}
	start := time.Now()
	body, status, err := a.readBody(w, r)
	if status != 0 {
		a.plain(w, status, http.StatusText(status)+"\r\n")
		return
	}
	var reply any
	if err != nil {
		err = wire.Refuse(wire.CodeJSON, nil) // the client was too slow, or is gone and will not read this
	} else {
		reply, err = a.call(rt, &request{body: body, addr: a.clientAddr(r), client: r.Context()})
	}
	code := a.answer(w, rt, reply, err)
	a.metrics.requests.WithLabelValues(rt.name, strconv.Itoa(int(code))).Inc()
	a.metrics.seconds.WithLabelValues(rt.name).Observe(time.Since(start).Seconds())
}

// servePage sends the chat page, or a file of it. The page consists of many small files, so the connection is kept for the next
// one; see [conn.keeps].
func (a *api) servePage(w http.ResponseWriter, r *http.Request) {
	if c := connOf(r); c != nil {
		c.sending()
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(pageTimeout)) // a closed connection fails later
		if r.ContentLength == 0 && c.keeps() {
			w.Header().Del("Connection")
		}
	}
	out := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	a.page.ServeHTTP(out, r)
	a.metrics.requests.WithLabelValues("page", strconv.Itoa(out.status)).Inc()
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// plain answers with a status code and text. It is used for everything except a POST to a known route whose body was
// read. The server reads the rest of the request before it closes the connection, so that the client receives the
// answer; plain bounds the time for that.
func (a *api) plain(w http.ResponseWriter, status int, text string) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(lingerTimeout)) // fails for a test's recorder only
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // on an error the client has left
	a.metrics.requests.WithLabelValues("other", strconv.Itoa(status)).Inc()
}

var errDropped = errors.New("gate: connection dropped for a newer one")

// readBody reads at most maxBodyBytes within readTimeout. If status is not 0, it is to be sent instead of a reply.
func (a *api) readBody(w http.ResponseWriter, r *http.Request) (body []byte, status int, err error) {
	if r.ContentLength > maxBodyBytes {
		return nil, http.StatusRequestEntityTooLarge, nil
	}
	body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, http.StatusRequestEntityTooLarge, nil
	}
	if err != nil {
		return nil, 0, err
	}
	if c := connOf(r); c != nil && !c.received() {
		return nil, 0, errDropped
	}
	// Otherwise the deadline would end the request's context while the handler runs.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // a test's recorder has none
	return body, 0, nil
}

// call runs the handler. It goes on if the client hangs up: a registration must not be left half done.
func (a *api) call(rt route, req *request) (reply any, err error) {
	defer func() {
		if p := recover(); p != nil {
			a.metrics.panics.Inc()
			a.log.Error("handler panicked", "route", rt.name, "stack", string(debug.Stack())) // p is not logged: it may contain what was sent
			reply, err = nil, wire.Refuse(wire.CodeInternal, nil)
		}
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(req.client), requestTimeout)
	defer cancel()
	defer context.AfterFunc(a.cut, cancel)()
	return rt.handle(ctx, req)
}

// answer sends the reply, or the code of err, and returns the code.
func (a *api) answer(w http.ResponseWriter, rt route, reply any, err error) wire.Code {
	code := wire.CodeOf(err)
	if err != nil {
		f := failure{Error: code}
		if l, ok := errors.AsType[*later](err); ok {
			f.RetryMS = max(1, l.wait.Milliseconds())
			w.Header().Set("Retry-After", strconv.FormatInt((f.RetryMS+999)/1000, 10))
		}
		reply = f
		a.logRefusal(rt.name, code, err)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(reply); err != nil {
		panic("gate: reply of " + rt.name + ": " + err.Error()) // the reply types always encode
	}
	text := bytes.TrimSuffix(out.Bytes(), []byte("\n"))
	w.Header().Set("Content-Type", "text/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	_, _ = w.Write(text) // on an error the client has left
	return code
}

// safeError describes a dependency's failure without anything that a user sent.
type safeError string

func (e safeError) Error() string { return string(e) }

// decode decodes a request body into into: one JSON object in UTF-8, with every string in need present. Other keys
// are ignored.
func decode(body []byte, into any, need ...*optional) error {
	if !utf8.Valid(body) {
		return wire.Refuse(wire.CodeJSON, nil)
	}
	if first := bytes.TrimLeft(body, " \t\r\n"); len(first) == 0 || first[0] != '{' {
		return wire.Refuse(wire.CodeJSON, nil)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return wire.Refuse(wire.CodeJSON, nil) // the error may quote the body
	}
	for _, n := range need {
		if !n.set {
			return wire.Refuse(wire.CodeJSON, nil)
		}
	}
	return nil
}

// optional is a JSON string that records whether it was present.
type optional struct {
	text string
	set  bool
}

// UnmarshalJSON implements json.Unmarshaler; null counts as absent.
func (o *optional) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*o = optional{}
		return nil
	}
	o.set = true
	return json.Unmarshal(data, &o.text)
}
