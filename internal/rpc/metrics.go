package rpc

import (
	"context"
	"errors"
	"os"

	"github.com/cloudwego/kitex/pkg/kerrors"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/pkg/stats"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics counts calls by service and method, for callers and callees. Use one Metrics for all servers and clients of
// a node. A nil *Metrics counts nothing.
type Metrics struct {
	served, called           *prometheus.CounterVec
	servedSeconds, calledSec *prometheus.HistogramVec
	refusals                 *prometheus.CounterVec
}

// NewMetrics registers the metrics with reg; with nil, nowhere.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	calls := []string{"service", "method", "result"}
	method := []string{"service", "method"}
	buckets := []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
	return &Metrics{
		served: f.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_rpc_served_total", Help: "Calls answered, by result: ok, timeout, unauthenticated, panic, error.",
		}, calls),
		servedSeconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "parley_rpc_served_seconds", Help: "Time from the first byte of a call to the last byte of its reply.", Buckets: buckets,
		}, method),
		called: f.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_rpc_called_total", Help: "Calls made, by result: ok, timeout, unauthenticated, unreachable, error.",
		}, calls),
		calledSec: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "parley_rpc_called_seconds", Help: "Time from making a call to receiving its reply.", Buckets: buckets,
		}, method),
		refusals: f.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_rpc_refused_total",
			Help: "Calls whose signature was not accepted, by reason: unsigned, malformed, callee, signature, clock, replay, full, body.",
		}, []string{"reason"}),
	}
}

func (m *Metrics) refused(r *Refusal) {
	if m != nil {
		m.refusals.WithLabelValues(r.Reason).Inc()
	}
}

// A tracer observes each call when Kitex reports its end.
type tracer struct {
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

var _ stats.Tracer = tracer{}

func (tracer) Start(ctx context.Context) context.Context { return ctx }

// Finish implements stats.Tracer: it counts the call and observes its duration.
func (t tracer) Finish(ctx context.Context) {
	ri := rpcinfo.GetRPCInfo(ctx)
	st := ri.Stats()
	service, method := ri.Invocation().ServiceName(), ri.Invocation().MethodName()
	if ri.Invocation().MethodInfo() == nil {
		// A caller may invent any number of names; they must not become label values.
		service, method = "unknown", "unknown"
	}
	panicked, _ := st.Panicked()
	err := st.Error()
	if said := ri.Invocation().BizStatusErr(); err == nil && said != nil && said.BizStatusCode() == refusalCode {
		err = &Refusal{} // for a Kitex server a refusal is not an error
	}
	t.calls.WithLabelValues(service, method, result(err, panicked)).Inc()
	start, finish := st.GetEvent(stats.RPCStart), st.GetEvent(stats.RPCFinish)
	if start != nil && finish != nil && !start.IsNil() && !finish.IsNil() {
		t.seconds.WithLabelValues(service, method).Observe(finish.Time().Sub(start.Time()).Seconds())
	}
}

// result returns the label value for the outcome of a call.
func result(err error, panicked bool) string {
	switch {
	case panicked:
		return "panic"
	case err == nil:
		return "ok"
	case IsUnauthenticated(err):
		return "unauthenticated"
	case IsTimeout(err):
		return "timeout"
	case IsUnreachable(err):
		return "unreachable"
	}
	return "error"
}

// IsTimeout reports whether a call ended because of its timeout. It may have been executed.
func IsTimeout(err error) bool {
	return errors.Is(err, kerrors.ErrRPCTimeout) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}

// IsUnreachable reports whether no connection could be made. The call was certainly not executed.
func IsUnreachable(err error) bool {
	for _, target := range []error{kerrors.ErrGetConnection, kerrors.ErrNoConnection, kerrors.ErrServiceDiscovery, kerrors.ErrLoadbalance} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
