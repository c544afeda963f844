package lab

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/bench/hist"
	"parley/bench/report"
	"parley/bench/swarm"
)

// TestOneOverloadedAgentMakesTheRunInvalid has a busy agent beside an idle one: their sum says nothing.
func TestOneOverloadedAgentMakesTheRunInvalid(t *testing.T) {
	r := &run{main: hist.New(), lag: hist.New(), rep: &report.Report{Figures: map[string]float64{}, Errors: map[string]int64{}}}
	r.Agents, r.Loops, r.MaxLag = []string{"10.0.0.8:7070", "10.0.0.9:7070"}, 1, 10*time.Millisecond
	r.main.Record(int64(time.Millisecond))
	s := step{name: "chat", measured: true, main: swarm.HAck}
	r.enter(s, &swarm.Outcome{Cores: []float64{.2, .5}}, 0)
	require.Empty(t, r.generatorFault())
	r.enter(s, &swarm.Outcome{Cores: []float64{.1, .97}}, 1)
	require.Contains(t, r.generatorFault(), "the agent at 10.0.0.9:7070 was the bottleneck")

	late := hist.New()
	late.Record(int64(time.Second))
	r.cores = nil
	s.Load.Rates = []float64{1}
	r.enter(s, &swarm.Outcome{Hists: map[string][]byte{swarm.HLag: late.Pack()}}, 2)
	require.Contains(t, r.generatorFault(), "the generator itself was late")
}
