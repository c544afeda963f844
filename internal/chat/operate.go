package chat

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/config"
	"parley/internal/obs"
	"parley/internal/operate"
	"parley/internal/ops"
	"parley/internal/presence"
)

func (s *Server) newOperator(metrics prometheus.Gatherer) *operate.Operator {
	return operate.New(operate.Deps{
		Log: s.log, Context: s.ctx, Node: s.cfg.SelfServer.Name, Version: obs.Version(), Started: time.Now(), Metrics: metrics,
		Limits: config.Values(s.cfg.Limits), Registry: s.registry, Lease: s.lease, Ender: s.ender, Mover: s.mover,
		Logout: s.presence.Sessions.Logout, Nodes: func() []presence.Node { return s.presence.Nodes.View().Nodes() },
		Connections: func() int { return s.conns.Count() }, Over: s.cfg.Limits.DrainTimeout,
	})
}

// ServeOps adds what this node says of itself to an operations listener. It must be called before the listener runs.
func (s *Server) ServeOps(o *obs.Ops) {
	o.HandleAPI("GET /api/v1/node", func(w http.ResponseWriter, r *http.Request) {
		figures, err := s.operator.Figures(r.Context())
		ops.WriteResult(w, figures, err)
	})
	o.HandleAPI("GET /api/v1/sessions", func(w http.ResponseWriter, r *http.Request) {
		limit, _ := strconv.Atoi(r.FormValue("limit"))
		uid, _ := strconv.ParseInt(r.FormValue("uid"), 10, 32)
		page, err := s.operator.Sessions(r.Context(), ops.SessionQuery{UID: int32(uid), Limit: limit, Cursor: r.FormValue("cursor")})
		ops.WriteResult(w, page, err)
	})
}
