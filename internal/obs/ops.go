package obs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// ProbeTimeout bounds every probe of /readyz, whatever the probe does with its context.
const ProbeTimeout = 2 * time.Second

// Check is a dependency that /readyz reports.
type Check struct {
	Name  string // "redis", "sql"; public
	Probe func(context.Context) error
}

// Ops is the operations listener of a node. Its methods are safe for concurrent use.
type Ops struct {
	ln       net.Listener // nil: listens nowhere
	log      *slog.Logger
	server   *http.Server
	mux      *http.ServeMux
	refused  *prometheus.CounterVec
	checks   []*runningCheck
	draining atomic.Bool
	token    atomic.Pointer[string] // opens /debug to callers elsewhere, and /api to all; nil or "": nothing does
}

// ListenOps binds addr ("127.0.0.1:0" takes a free port, "" makes an Ops that listens nowhere) and logs where; nothing is
// served before Run. What it serves is for operators: it belongs on the loopback or a private network. /debug answers
// callers on this machine, and others that have the token, see SetToken.
func ListenOps(addr string, log *slog.Logger, reg *prometheus.Registry, checks []Check) (*Ops, error) {
	o := &Ops{log: log, mux: http.NewServeMux()}
	for _, c := range checks {
		o.checks = append(o.checks, &runningCheck{Check: c})
	}
	if addr == "" {
		return o, nil
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("obs: operations listener: %w", err)
	}
	o.ln = newSpareListener(ln)
	o.refused = newRefused(reg)
	mux := o.mux
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{Registry: reg}))
	mux.HandleFunc("GET /healthz", o.healthz)
	mux.HandleFunc("GET /readyz", o.readyz)
	mux.HandleFunc("GET /debug/pprof/", o.guarded(pprof.Index))
	mux.HandleFunc("GET /debug/pprof/cmdline", o.guarded(pprof.Cmdline))
	mux.HandleFunc("GET /debug/pprof/profile", o.guarded(pprof.Profile))
	mux.HandleFunc("GET /debug/pprof/symbol", o.guarded(pprof.Symbol))
	mux.HandleFunc("GET /debug/pprof/trace", o.guarded(pprof.Trace))
	o.server = &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	log.Info("operations listener", "addr", o.Addr())
	if !isLoopback(o.Addr()) {
		log.Warn("operations listener is not on loopback: metrics and readiness are readable without authentication; /api needs [Ops] Token", "addr", o.Addr())
	}
	return o, nil
}

// Addr is the bound address, host:port, or "".
func (o *Ops) Addr() string {
	if o.ln == nil {
		return ""
	}
	return o.ln.Addr().String()
}

// SetToken lets callers on other machines use /debug if they send the token: Authorization: Bearer TOKEN. Without one only
// this machine can, for a profile shows what runs here and costs what it takes.
func (o *Ops) SetToken(token string) { o.token.Store(&token) }

// guarded refuses callers that may not use /debug.
func (o *Ops) guarded(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !o.allowed(r) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "available on this machine only; elsewhere send [Ops] Token as Authorization: Bearer TOKEN", http.StatusUnauthorized)
			return
		}
		h(w, r)
	}
}

func (o *Ops) allowed(r *http.Request) bool {
	if isLoopback(r.RemoteAddr) {
		return true
	}
	token := o.token.Load()
	return token != nil && *token != "" && hasToken(r, *token)
}

// SetDraining makes /readyz answer 503, so that balancers look elsewhere, or takes that back.
func (o *Ops) SetDraining(draining bool) { o.draining.Store(draining) }

// Run serves until ctx ends, then lets requests finish for a second and closes the rest. It returns nil then, and the
// listener's error otherwise. It may be called once.
func (o *Ops) Run(ctx context.Context) error {
	if o.ln == nil {
		<-ctx.Done()
		return nil
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if o.server.Shutdown(grace) != nil {
			_ = o.server.Close() // what is left is a profile or a stuck reader
		}
	})
	err := o.server.Serve(o.ln)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("obs: operations listener: %w", err)
}

// Close gives the port back when Run was never called. After Run it does nothing.
func (o *Ops) Close() error {
	if o.ln == nil {
		return nil
	}
	err := o.server.Close()
	if cerr := o.ln.Close(); err == nil && !errors.Is(cerr, net.ErrClosed) {
		err = cerr
	}
	return err
}

// healthz says that the process runs its goroutines; it asks nobody else, so that a dead database restarts no nodes.
func (o *Ops) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n")) // the asker left
}

// readiness is what /readyz answers.
type readiness struct {
	Ready        bool         `json:"ready"`
	Draining     bool         `json:"draining"`
	Dependencies []dependency `json:"dependencies"`
}

type dependency struct {
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"` // a class, see ErrorClass, or what the error itself says is for everybody
	MS    int64  `json:"ms"`
}

func (o *Ops) readyz(w http.ResponseWriter, r *http.Request) {
	answer := o.readiness(r.Context())
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !answer.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	_ = enc.Encode(answer) // the asker left
}

// readiness asks each dependency, all at once.
func (o *Ops) readiness(ctx context.Context) readiness {
	answer := readiness{Ready: true, Draining: o.draining.Load(), Dependencies: make([]dependency, len(o.checks))}
	var wg sync.WaitGroup
	for i, c := range o.checks {
		wg.Go(func() { answer.Dependencies[i] = c.run(ctx) })
	}
	wg.Wait()
	for _, d := range answer.Dependencies {
		answer.Ready = answer.Ready && d.OK
	}
	answer.Ready = answer.Ready && !answer.Draining
	return answer
}

// public is an error with a text that is safe to show anyone.
type public interface {
	error
	Public() string
}

// runningCheck lets at most one probe of a dependency run, so that a probe that ignores its context costs one goroutine
// however often /readyz is asked.
type runningCheck struct {
	Check
	mu      sync.Mutex
	current *probe // nil when none runs
}

// probe is one run, shared by all callers that ask during it.
type probe struct {
	done chan struct{}
	err  error // read after done
}

func (c *runningCheck) run(ctx context.Context) dependency {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, ProbeTimeout)
	defer cancel()
	p := c.join(ctx)
	var err error
	select {
	case <-p.done:
		err = p.err
	case <-ctx.Done():
		err = ctx.Err()
	}
	d := dependency{Name: c.Name, OK: err == nil, MS: time.Since(begin).Milliseconds()}
	if err != nil {
		d.Error = ErrorClass(err)
		if said, ok := errors.AsType[public](err); ok {
			d.Error = said.Public()
		}
	}
	return d
}

// join returns the probe that runs, starting one if none does. The probe outlives its first caller.
func (c *runningCheck) join(ctx context.Context) *probe {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil {
		return c.current
	}
	p := &probe{done: make(chan struct{})}
	c.current = p
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ProbeTimeout)
		defer cancel()
		p.err = safely(ctx, c.Probe)
		c.mu.Lock()
		c.current = nil
		c.mu.Unlock()
		close(p.done)
	}()
	return p
}

var errPanic = errors.New("probe panicked")

func safely(ctx context.Context, probe func(context.Context) error) (err error) {
	defer func() {
		if recover() != nil {
			err = errPanic
		}
	}()
	return probe(ctx)
}
