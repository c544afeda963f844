package lab

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/bench/hist"
	"parley/bench/report"
	"parley/bench/swarm"
)

// TestOneOverloadedAgentMakesTheRunInvalid has a busy agent beside an idle one. The sum of their load must not hide
// that.
func TestOneOverloadedAgentMakesTheRunInvalid(t *testing.T) {
	r := &run{main: hist.New(), lag: hist.New(), rep: &report.Report{Figures: map[string]float64{}, Errors: map[string]int64{}}}
	r.Agents, r.Loops, r.MaxLag = []string{"10.0.0.8:7070", "10.0.0.9:7070"}, 1, 10*time.Millisecond
	r.main.Record(int64(time.Millisecond))
	s := step{name: "chat", measured: true, main: swarm.HAck}
	r.enter(s, &swarm.Outcome{Cores: []float64{.2, .5}}, 0)
	require.Empty(t, judge{r}.generatorFault())
	r.enter(s, &swarm.Outcome{Cores: []float64{.1, .97}}, 1)
	require.Contains(t, judge{r}.generatorFault(), "the agent at 10.0.0.9:7070 was the bottleneck")

	r.shared = true
	require.NotEmpty(t, judge{r}.generatorFault(), "an agent is a process of its own")
	r.Agents = nil
	require.Empty(t, judge{r}.generatorFault(), "this process also did something else")

	late := hist.New()
	late.Record(int64(time.Second))
	r.cores = nil
	s.Load.Rates = []float64{1}
	r.enter(s, &swarm.Outcome{Hists: map[string][]byte{swarm.HLag: late.Pack()}}, 2)
	require.Contains(t, judge{r}.generatorFault(), "the generator itself was late")
}

// E4
func TestAMissedBudgetIsTheVerdict(t *testing.T) {
	judged := func(budgets, met bool) report.Verdict {
		r := &run{main: hist.New(), lag: hist.New(), rep: &report.Report{Figures: map[string]float64{}, Errors: map[string]int64{}}}
		r.Budgets = budgets
		r.budget("a slow reader", "300 KiB", "256 KiB", met, "")
		judge{r}.verdict(nil)
		return r.rep.Verdict
	}
	v := judged(true, false)
	require.Equal(t, report.Missed, v.Code)
	require.Equal(t, "budget missed", v.Word)
	require.Equal(t, []string{"a slow reader: 300 KiB misses the budget of 256 KiB"}, v.Reasons)
	require.Equal(t, report.Pass, judged(true, true).Code)
	require.Equal(t, report.Pass, judged(false, false).Code, "--no-budgets")
}

// E3
func TestSecretsAreNotInTheReport(t *testing.T) {
	for _, args := range [][]string{
		{"chat", "--secret", "canary one", "--rate", "9"},
		{"chat", "--secret=canary one", "--agent-key=canary*two"},
		{"chat", "--agent-key", "canary*two"},
		{"chat", "--agent-key"},
		{"drain", "--ops-token", "canary"},
	} {
		r := &run{}
		r.argv = args
		line := r.command()
		require.NotContains(t, line, "canary")
		require.NotContains(t, line, "'***'")
	}
	r := &run{}
	r.argv = []string{"chat", "--secret", "canary", "--rate", "9", "--assert", "p99<5ms"}
	require.Equal(t, "go run ./bench chat --secret *** --rate 9 --assert 'p99<5ms'", r.command())
	require.Equal(t, "canary", r.argv[2], "the run itself still has it")
}
