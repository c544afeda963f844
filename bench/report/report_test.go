package report

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/bench/assert"
	"parley/bench/hist"
	"parley/bench/ledger"
	"parley/bench/watch"
)

// sample is a report with something in every part, including markup that the page must escape.
func sample() *Report {
	h := hist.New()
	for i := range 5000 {
		h.Record(int64(i) * 20_000)
	}
	r := &Report{
		Format: Format, Version: "v1", Verb: "chat", What: "texts", Command: "go run ./bench chat --fault 'kill chat2 at 2s' </script><b>", Seed: 42,
		StartedAt: time.Unix(1_800_000_000, 0).UTC(), Seconds: 12.5,
		Verdict:  Verdict{Incorrect, Words[Incorrect], []string{"the ledger found 1 violation <img src=x onerror=alert(1)>"}},
		Headline: []Figure{{Name: "texts stored", Value: "1000/s", Note: "open loop", Budget: "2000/s", Miss: true}},
		Stages:   []Stage{{Name: "chat", Kind: "chat", At: 1, Seconds: 10, Offered: 10000, Done: 9999, Rate: 999.9, P50: 1e6, P99: 9e6, Max: 5e7, Loop: "open"}},
		Marks:    []Mark{{3, "kill chat2"}}, Errors: map[string]int64{"chat: connection lost": 3},
		Ledger:    &ledger.Summary{Planned: 10000, Sent: 10000, Acked: 9999, Delivered: 9998, HistoryRead: 9999, HistoryChecked: true, Lost: 1, Faults: []ledger.Fault{{What: "gone", From: 1, To: 2}}},
		HistoryBy: "read from SQL", Left: &Left{Seconds: .5, Redis: true, Sessions: 3, Dead: 2, Example: "user <7>"},
		Asserts:   []assert.Result{{Text: "p99<50ms", Got: .009, Pass: true}, {Text: "lost==0", Got: 1}},
		LimitedBy: []string{"nothing"}, Tables: []Table{{Title: "the search", Header: []string{"a", "b"}, Rows: [][]string{{"1", "2"}}, Note: "n"}},
		Figures: map[string]float64{"p99": .009}, Notes: []string{"a note"},
	}
	detected := .012
	r.Faults = []Fault{{What: "kill chat2", At: 3, Sign: "connection lost", Detection: &detected}}
	r.Tables = append(r.Tables, Table{Title: "faults", Header: []string{"what", "detected after"}, Rows: [][]string{{"kill chat2", "0.01 s"}}})
	r.AddHist("chat", "ack", "stored", h)
	r.AddHist("chat", "empty", "nothing", hist.New())
	for i := range 10 {
		r.Timeline = append(r.Timeline, Second{At: 1 + float64(i), Stage: "chat", Offered: 1000, Done: 990, Online: 100, P50: 1e6, P99: 9e6, Max: 5e7})
		r.Nodes = append(r.Nodes, watch.Sample{At: 1 + float64(i), Name: "chat1", CPU: .5, RSS: 50 << 20, Sessions: 100, Waiting: 3, GCSeconds: .001})
	}
	return r
}

func TestKeptAndReadAgain(t *testing.T) {
	r := sample()
	path := filepath.Join(t.TempDir(), "r.json")
	require.NoError(t, r.WriteJSON(path))
	again, err := Read(path)
	require.NoError(t, err)
	require.Equal(t, r, again)
	require.Len(t, again.Hists, 1, "an empty histogram says nothing")
	h, err := hist.Decode(again.Histogram("ack").Encoded)
	require.NoError(t, err)
	require.EqualValues(t, 5000, h.Count())
	require.Nil(t, again.Histogram("none"))
	require.NoError(t, r.WriteHGRM(filepath.Join(filepath.Dir(path), "x")))
	require.FileExists(t, filepath.Join(filepath.Dir(path), "x-ack.hgrm"))
	_, err = Read("/nonexistent")
	require.Error(t, err)
}

func TestTextSaysTheVerdictFirst(t *testing.T) {
	var b strings.Builder
	sample().WriteText(&b)
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	require.Equal(t, "chat: INCORRECT", lines[0])
	for _, want := range []string{"MISSED budget 2000/s", "lost 1", "MISSED lost==0", "ok     p99<50ms", "again: go run", "connection lost", "the search", "9999 read from SQL", "3 sessions (usession_)", "2 entries of dead nodes"} {
		require.Contains(t, b.String(), want)
	}
}

func writePage(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "r.html")
	require.NoError(t, sample().WriteHTML(path))
	return path
}

func TestThePageIsCompleteAndBelievesNothing(t *testing.T) {
	b, err := os.ReadFile(writePage(t))
	require.NoError(t, err)
	page := string(b)
	require.NotContains(t, page, "<img src=x")
	require.NotContains(t, page, "</script><b>")
	require.NotRegexp(t, `(?i)(src|href)\s*=\s*["']?(https?:)?//`, page)
	require.Contains(t, page, "was read from SQL, to its end")
	require.Contains(t, page, "user &lt;7&gt;")
	require.Contains(t, page, "Leon Sorokin", "the licence of the plots comes along")
	require.Equal(t, 2, strings.Count(page, "</script>"))
}

// TestTheBrowserDrawsIt opens the page in Chromium, if available, and looks for the plots and for the last action of
// the script.
func TestTheBrowserDrawsIt(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("chromium is not installed, and CI must not skip it")
		}
		t.Skip("chromium is not installed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var errs strings.Builder
	cmd := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+t.TempDir(),
		"--enable-logging=stderr", "--dump-dom", "file://"+writePage(t))
	cmd.Stderr = &errs
	cmd.WaitDelay = 5 * time.Second
	dom, err := cmd.Output()
	require.NoError(t, err, errs.String())
	require.NotContains(t, errs.String(), "Uncaught")
	require.GreaterOrEqual(t, strings.Count(string(dom), "<canvas"), 7, "a plot for each figure")
	require.Contains(t, string(dom), "chat, 10.0 s", "the strip of stages")
	require.Contains(t, string(dom), "<th>detected after</th>", "the faults")
	require.Contains(t, string(dom), "<td>0.01 s</td>")
}
