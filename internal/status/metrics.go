package status

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"parley/internal/presence"
	"parley/internal/wire"
)

// metrics count what the node hands out, by the code of the answer in words.
type metrics struct {
	placements *prometheus.CounterVec
	logins     *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, nodes *presence.Nodes) *metrics {
	f := promauto.With(reg)
	node := func(state string, counts func(presence.Node) bool) {
		f.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "parley_status_nodes", Help: "Chat nodes as last read from Redis, by state: open, draining, dead.",
			ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 {
			n := 0
			for _, node := range nodes.View().Nodes() {
				if counts(node) {
					n++
				}
			}
			return float64(n)
		})
	}
	node("open", presence.Node.Open)
	node("draining", func(n presence.Node) bool { return n.Live && n.Draining })
	node("dead", func(n presence.Node) bool { return !n.Live })
	return &metrics{
		placements: f.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_status_placements_total",
			Help: "Requests to place a user, by result: ok, no_node, unavailable, busy, refused.",
		}, []string{"result"}),
		logins: f.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_status_logins_total", Help: "Tokens that were checked, by result: ok, invalid, unavailable, busy, refused.",
		}, []string{"result"}),
	}
}

// word is how metrics say a code.
func word(code wire.Code) string {
	switch code {
	case wire.CodeOK:
		return "ok"
	case wire.CodeRPC:
		return "no_node"
	case wire.CodeUnavailable:
		return "unavailable"
	case wire.CodeBusy:
		return "busy"
	case wire.CodeTokenInvalid:
		return "invalid"
	}
	return "refused"
}
