package lab

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/bench/hist"
	"parley/bench/report"
)

func TestWhoIsNotForgottenMakesARunIncorrect(t *testing.T) {
	for _, c := range []struct {
		what    string
		left    report.Left
		unasked error
		faults  bool
		want    int
	}{
		{"nothing is left", report.Left{Redis: true}, nil, false, report.Pass},
		{"a node died", report.Left{Redis: true, Dead: 3}, nil, true, report.Pass},
		{"a session", report.Left{Redis: true, Sessions: 1}, nil, false, report.Incorrect},
		{"a session after a fault", report.Left{Redis: true, Sessions: 1}, nil, true, report.Incorrect},
		{"a place", report.Left{Redis: true, Names: 1}, nil, false, report.Incorrect},
		{"a count", report.Left{Redis: true, Counted: 1}, nil, false, report.Incorrect},
		{"a node's session", report.Left{NodeSessions: 1}, nil, false, report.Incorrect},
		{"no Redis", report.Left{}, errors.New("gone"), false, report.Missed},
		{"Redis was the fault", report.Left{}, errors.New("gone"), true, report.Pass},
	} {
		r := &run{rep: &report.Report{Left: &c.left, Figures: map[string]float64{}}, main: hist.New(), lag: hist.New(), tolerate: c.faults, unasked: c.unasked}
		judge{r}.verdict(nil)
		require.Equal(t, c.want, r.rep.Verdict.Code, "%s: %v", c.what, r.rep.Verdict)
	}
}
