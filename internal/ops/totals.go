package ops

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// totals maps a counter to its name in Figures.Totals.
var totals = map[string]string{
	"parley_commit_texts_stored_total":     "texts",
	"parley_commit_texts_failed_total":     "texts_failed",
	"parley_router_pushes_local_total":     "pushes",
	"parley_group_pushes_total":            "group_pushes",
	"parley_router_pushes_forwarded_total": "forwarded",
	"parley_chat_logins_total":             "logins",
	"parley_chat_heartbeats_total":         "heartbeats",
	"parley_chat_slow_consumers_total":     "slow_consumers",
	"parley_chat_sessions_stale_total":     "stale",
	"parley_chat_sessions_replaced_total":  "replaced",
	"parley_chat_gaps_total":               "gap_notices",
	"parley_chat_panics_total":             "panics",
	"parley_chat_lease_failures_total":     "lease_failures",
	"parley_chat_fenced_total":             "fenced",
	"parley_peer_failures_total":           "peer_failures",
}

// refusals maps a counter to its name in Figures.Refusals. A label's value follows: "login 2001".
var refusals = map[string]string{
	"parley_chat_connections_refused_total": "connection",
	"parley_chat_logins_refused_total":      "login",
	"parley_chat_refusals_total":            "request",
	"parley_chat_rate_limited_total":        "request rate",
	"parley_chat_texts_limited_total":       "text rate",
	"parley_chat_queue_full_total":          "queue full",
	"parley_chat_window_full_total":         "window full",
	"parley_chat_flooding_total":            "flooding",
	"parley_chat_bad_frames_total":          "bad frame",
	"parley_chat_login_timeouts_total":      "login time-out",
	"parley_chat_connections_evicted_total": "evicted",
	"parley_commit_requests_shed_total":     "shed",
	"parley_commit_requests_refused_total":  "commit queue full",
	"parley_commit_texts_denied_total":      "not allowed",
}

// queues maps a gauge to its name in Figures.Queues.
var queues = map[string]string{
	"parley_chat_texts_waiting":  "texts",
	"parley_chat_logins_waiting": "logins",
	"parley_chat_logins_working": "logins_working",
	"parley_router_owed":         "owed",
	"parley_group_owed":          "group_owed",
	"parley_mark_waiting":        "marks",
}

// latencies maps a histogram to its name in Figures.Latency.
var latencies = map[string]string{
	"parley_commit_answer_seconds": "text",
	"parley_chat_login_seconds":    "login",
}

// Read fills what comes from metrics.
func (f *Figures) Read(g prometheus.Gatherer) error {
	families, err := g.Gather()
	if err != nil {
		return err
	}
	f.Totals, f.Refusals, f.Queues = map[string]float64{}, map[string]float64{}, map[string]float64{}
	f.Latency = map[string]Histogram{}
	for _, family := range families {
		for _, m := range family.Metric {
			if name, ok := totals[family.GetName()]; ok {
				f.Totals[name] += m.GetCounter().GetValue()
			} else if name, ok := refusals[family.GetName()]; ok {
				if n := m.GetCounter().GetValue(); n > 0 {
					f.Refusals[labelled(name, m)] += n
				}
			} else if name, ok := queues[family.GetName()]; ok {
				f.Queues[name] += m.GetGauge().GetValue()
			} else if name, ok := latencies[family.GetName()]; ok {
				f.Latency[name] = histogram(m.GetHistogram())
			}
		}
	}
	return nil
}

// labelled returns name with the values of a metric's labels.
func labelled(name string, m *dto.Metric) string {
	parts := []string{name}
	for _, l := range m.Label {
		parts = append(parts, l.GetValue())
	}
	return strings.Join(parts, " ")
}

func histogram(h *dto.Histogram) (out Histogram) {
	for _, b := range h.Bucket {
		out.Bounds = append(out.Bounds, b.GetUpperBound())
		out.Counts = append(out.Counts, b.GetCumulativeCount())
	}
	out.Counts = append(out.Counts, h.GetSampleCount())
	return out
}

// Also returns a registerer that registers with each of the given ones; nil ones are left out.
func Also(registerers ...prometheus.Registerer) prometheus.Registerer {
	var all several
	for _, r := range registerers {
		if r != nil {
			all = append(all, r)
		}
	}
	return all
}

type several []prometheus.Registerer

// Register registers c with all, or with none.
func (s several) Register(c prometheus.Collector) error {
	for i, r := range s {
		if err := r.Register(c); err != nil {
			s[:i].Unregister(c)
			return err
		}
	}
	return nil
}

// MustRegister is Register that panics.
func (s several) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := s.Register(c); err != nil {
			panic(err)
		}
	}
}

// Unregister reports whether all knew c.
func (s several) Unregister(c prometheus.Collector) bool {
	all := true
	for _, r := range s {
		all = r.Unregister(c) && all
	}
	return all
}
