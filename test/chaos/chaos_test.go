//go:build linux

package main

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
)

func TestBarsAreComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, b := range allBars() {
		require.False(t, seen[b.ID], "two bars %s", b.ID)
		seen[b.ID] = true
		require.NotEmpty(t, b.Fault, b.ID)
		require.NotEmpty(t, b.Want, b.ID)
		require.NotNil(t, b.Run, b.ID)
	}
}

func TestChoose(t *testing.T) {
	all := []Bar{{ID: "D1"}, {ID: "D2"}, {ID: "P1"}}
	ids := func(names ...string) (out []string) {
		chosen, err := choose(all, names)
		require.NoError(t, err)
		for _, b := range chosen {
			out = append(out, b.ID)
		}
		return out
	}
	require.Equal(t, []string{"D1", "D2", "P1"}, ids())
	require.Equal(t, []string{"D2", "P1"}, ids("p1", "D2", "D2"))
	require.Equal(t, []string{"D1", "D2"}, ids("D"))
	_, err := choose(all, []string{"D1", "Q9"})
	require.ErrorContains(t, err, "Q9")
}

func TestCommandLine(t *testing.T) {
	var out, errs bytes.Buffer
	require.Equal(t, exitPass, run(t.Context(), []string{"--list", "--bars", "D1,P3"}, &out, &errs))
	require.Contains(t, out.String(), "D1 ")
	require.NotContains(t, out.String(), "X1 ")
	require.Equal(t, exitUsage, run(t.Context(), []string{"--bars", "Q9"}, &out, &errs))
	require.Equal(t, exitUsage, run(t.Context(), []string{"--nonsense"}, &out, &errs))
}

// docs/ROBUSTNESS.md must contain the table that --list --markdown writes.
func TestDocumentedBarsAreCurrent(t *testing.T) {
	text, err := os.ReadFile("../../docs/ROBUSTNESS.md")
	require.NoError(t, err)
	for line := range strings.Lines(markdownList(allBars())) {
		require.Contains(t, string(text), line, "write the table again: go run ./test/chaos --list --markdown FILE")
	}
}

func TestReport(t *testing.T) {
	r := &Report{}
	r.Zero("lost", 0)
	AtMost(r, "took", 2*time.Second, 3*time.Second)
	r.Percent("back", 99, 100, 99)
	require.False(t, r.Missed())
	r.Ratio("p99", 90*time.Millisecond, 10*time.Millisecond, 2, 100*time.Millisecond)
	require.False(t, r.Missed(), "below the floor")
	r.Zero("doubled", 1)
	require.True(t, r.Missed())
	res := result{Bar: Bar{ID: "D1", Fault: "a fault | of a kind", Want: "w"}, Outcome: miss, Figures: r.Figures()}
	require.Contains(t, res.line(), "doubled=1 MISSED = 0")
	require.Contains(t, res.line(), "took=2s (≤ 3s)")
	require.Contains(t, markdown([]Bar{res.Bar}, []result{res}, flags{Seed: 3}), `a fault \| of a kind`)
}

// The oracle must detect each kind of violation, or the bars prove nothing. Bar V7 shows the same with faulty nodes.
func TestOracleSeesWhatIsWrong(t *testing.T) {
	const a, b, thread = 1, 2, 7
	for name, wrong := range map[string]func(o *Oracle, d []client.Draft){
		"lost":      func(o *Oracle, d []client.Draft) { o.answered(client.Sent{UniqueID: d[0].UniqueID, MessageID: 1}) },
		"doubled":   func(o *Oracle, d []client.Draft) { deliver(o, d[0], 1); deliver(o, d[0], 1) },
		"reordered": func(o *Oracle, d []client.Draft) { deliver(o, d[1], 2); deliver(o, d[0], 1) },
		"corrupt": func(o *Oracle, d []client.Draft) {
			d[0].Text = strings.Replace(d[0].Text, ".1.2.", ".1.3.", 1)
			deliver(o, d[0], 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOracle(&World{Rand: rand.New(rand.NewPCG(1, 1))})
			o.pair(a, b, thread)
			d := []client.Draft{o.draft(a), o.draft(a)}
			s := o.book.Summary()
			require.Zero(t, s.Wrong())
			wrong(o, d)
			s = o.book.Summary()
			require.NotZero(t, s.Wrong(), "%+v", s)
		})
	}
}

func deliver(o *Oracle, d client.Draft, seq int64) {
	o.delivered(2, client.Message{ThreadID: 7, ID: seq, Sender: 1, UniqueID: d.UniqueID, Text: d.Text})
}

// CI repeats bars that were too slow. Lost or duplicated texts, and crashes, remain misses.
func TestOnlyLateBarsRunOnceMore(t *testing.T) {
	runs := map[string]int{}
	bar := func(id string, report func(r *Report, run int)) Bar {
		return Bar{ID: id, Run: func(_ context.Context, _ *World, r *Report) error {
			runs[id]++
			report(r, runs[id])
			return nil
		}}
	}
	late := func(r *Report, run int) { AtMost(r, "took", time.Duration(3-run)*time.Second, time.Second) }
	lost := func(r *Report, run int) { r.Zero("lost", int64(2-run)) }
	s := &suite{flags: flags{OnceMore: true}, dir: t.TempDir(), out: io.Discard, err: io.Discard}
	for _, b := range []Bar{bar("late", late), bar("lost", lost), bar("both", func(r *Report, run int) { late(r, run); lost(r, run) })} {
		s.done(s.try(t.Context(), b))
	}
	s.onceMore(t.Context())
	require.Equal(t, map[string]int{"late": 2, "lost": 1, "both": 1}, runs)
	require.Equal(t, pass, s.results[0].Outcome)
	require.True(t, s.anyMissed())

	s.results = nil
	clear(runs)
	for range maxOnceMore + 1 {
		s.done(s.try(t.Context(), bar("late", func(r *Report, _ int) { AtMost(r, "took", 2*time.Second, time.Second) })))
	}
	s.onceMore(t.Context())
	require.Equal(t, maxOnceMore+1, runs["late"], "so many are no accident")
}
