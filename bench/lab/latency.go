package lab

import (
	"fmt"

	"parley/bench/hist"
)

// latencyLine adds a headline with the percentiles of a histogram.
func (r *run) latencyLine(what string, h *hist.Hist) {
	if h.Count() == 0 {
		return
	}
	r.headline(what+" p99", hist.Format(h.Quantile(.99)),
		fmt.Sprintf("p50 %s, p99.9 %s, max %s", hist.Format(h.Quantile(.5)), hist.Format(h.Quantile(.999)), hist.Format(h.Max())))
}
