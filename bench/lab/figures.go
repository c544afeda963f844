package lab

import (
	"fmt"

	"parley/bench/hist"
	"parley/bench/report"
	"parley/bench/swarm"
)

// histograms describes each histogram in the report.
var histograms = map[string]string{
	swarm.HConnect:        "connect, with the handshakes of TLS and WebSocket",
	swarm.HLogin:          "1005 to 1006, on an open connection",
	swarm.HFull:           "connect and login, from the planned time",
	swarm.HPing:           "heartbeat, from the planned time",
	swarm.HPingService:    "heartbeat, from when it was sent",
	swarm.HAck:            "text stored and acknowledged, from the planned time",
	swarm.HAckService:     "the same, from when it was sent",
	swarm.HDeliver:        "text at its recipient, or at each member of a group, from the planned time",
	swarm.HDeliverService: "the same, from when it was sent",
	swarm.HLag:            "how late the generator itself was",
	swarm.HMark:           "read mark stored and acknowledged, from when it was sent",
	swarm.HOutage:         "a user without a connection",
	swarm.HMove:           "a user on the way from a node that drains to the next",
	swarm.HHistory:        "a page of history",
	swarm.HFirst:          "text at the first member of a group, from the planned time",
	swarm.HLast:           "text at the last member of a group, from the planned time",
	swarm.HTold:           "a friend goes online or offline, to the push that tells of it",
}

// figures makes figures of a histogram, for use in assertions.
func (r *run) figures(name string, h *hist.Hist) {
	for q, v := range map[string]int64{
		"p50": h.Quantile(.5), "p90": h.Quantile(.9), "p99": h.Quantile(.99), "p999": h.Quantile(.999), "max": h.Max(),
	} {
		r.rep.Figures[name+"."+q] = float64(v) / 1e9
	}
}

// figureNames are the names that assertions may use.
var figureNames = func() []string {
	names := []string{
		"rate", "done", "offered", "errors", "p50", "p90", "p99", "p999", "max", "lost", "unstored", "missed", "duplicated",
		"reordered", "corrupt", "misrouted", "wrong", "unanswered", "refused", "late", "acked", "delivered", "online",
		"back50", "back90", "back99", "back100", "session_bytes", "everything_bytes", "knee",
		"detection", "recovery",
		"deliveries", "delivery_cpu", "moved", "told", "floor_rate", "floor_cpu", "fanout_ratio", "rate_ratio", "removed", "afterremoval", "copies", "gaps",
		"changes", "presence_frames", "presence_frames_extra", "presence_wrong", "presence_right", "presence_queue", "change_cpu", "exchange_cpu",
	}
	names = append(names, hogFigures()...)
	for _, t := range []string{"tcp", "tls", "ws", "wss"} {
		names = append(names, t+"_rate_ratio", t+"_cpu_ratio", t+"_session_bytes")
	}
	for h := range histograms {
		for _, q := range []string{"p50", "p90", "p99", "p999", "max"} {
			names = append(names, h+"."+q)
		}
	}
	return names
}()

// headline adds a line to the head of the report.
func (r *run) headline(name, value, note string) {
	r.rep.Headline = append(r.rep.Headline, report.Figure{Name: name, Value: value, Note: note})
}

// budget adds a headline with a limit that must be met.
func (r *run) budget(name, value, bar string, ok bool, note string) {
	f := report.Figure{Name: name, Value: value, Note: note}
	if r.Budgets {
		f.Budget, f.Miss = bar, !ok
	}
	r.rep.Headline = append(r.rep.Headline, f)
}

// latencyLine adds a headline with percentiles of a histogram.
func (r *run) latencyLine(what string, h *hist.Hist) {
	if h.Count() == 0 {
		return
	}
	r.headline(what+" p99", hist.Format(h.Quantile(.99)),
		fmt.Sprintf("p50 %s, p99.9 %s, max %s", hist.Format(h.Quantile(.5)), hist.Format(h.Quantile(.999)), hist.Format(h.Max())))
}
