package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// event is a line as `go tool trace -d=parsed` prints it; times are in microseconds.
func event(g int, kind string, at int64, rest string) string {
	return fmt.Sprintf("M=1 P=0 G=%d %s Time=%d %s", g, kind, 1000*at, rest)
}

// trace is a shard (goroutine 1) that stores one text after another; goroutine 2 reads the frames.
func trace() []string {
	lines := []string{"Stack=", "\truntime.main @ 0x1"}
	state := func(by, g int, at int64, change string) {
		lines = append(lines, event(by, "StateTransition", at, fmt.Sprintf("GoID=%d %s Reason=\"\"", g, change)))
	}
	region := func(at, end int64, name string, wait int64) {
		lines = append(lines, event(1, "RegionBegin", at, `Task=0 Type="`+name+`"`))
		if wait > 0 {
			state(1, 1, at+1, "Running->Waiting")
			state(-1, 1, at+1+wait, "Waiting->Runnable")
			state(-1, 1, at+2+wait, "Runnable->Running")
		}
		lines = append(lines, event(1, "RegionEnd", end, `Task=0 Type="`+name+`"`))
	}
	read := func(at int64) {
		state(-1, 2, at, "NotExist->Runnable")
		state(-1, 2, at+1, "Runnable->Running")
		lines = append(lines, event(2, "Log", at+5, `Task=0 Category="text queued" Message="3"`))
		state(-1, 2, at+6, "Running->NotExist")
	}
	store := func(at int64) {
		lines = append(lines, event(1, "Log", at, `Task=0 Category="texts taken" Message="3 1"`))
		region(at, at+1, "authorise", 0)
		region(at+1, at+101, "lock", 90)
		region(at+101, at+301, "commit", 180)
		region(at+301, at+310, "push", 0)
		region(at+312, at+320, "answer", 0)
	}
	state(-1, 1, 10, "Undetermined->Running")
	read(100)
	read(150) // waits for the first
	store(110)
	store(440)
	return lines
}

func TestEachTextIsFollowedThroughItsSteps(t *testing.T) {
	p := newParser()
	for _, l := range trace() {
		p.line(l)
	}
	require.Len(t, p.done, 1, "the first has no batch before it, so that what it waited for is not known")
	got := p.done[0]
	us := func(n int64) int64 { return 1000 * n }
	require.Equal(t, us(440+320-150), got.total())
	for step, want := range map[int]int64{stepRead: 5, stepBehind: 430 - 155, stepWake: 10, stepAuthorise: 1, stepLock: 100, stepCommit: 200, stepPush: 9, stepAnswer: 8, stepOther: 2} {
		require.Equal(t, us(want), got.steps[step], stepNames[step])
	}
	require.Equal(t, us(275+90+180), got.states[waiting])
	require.Equal(t, got.total(), got.states[running]+got.states[runnable]+got.states[waiting])
}

func TestTheChartShowsEachStep(t *testing.T) {
	p := newParser()
	for _, l := range trace() {
		p.line(l)
	}
	var texts []text
	for range 100 {
		texts = append(texts, p.done[0])
	}
	l := summarise("a < b", texts)
	var out strings.Builder
	l.print(&out)
	require.Contains(t, out.String(), "COMMIT")
	require.Contains(t, out.String(), "200µs")
	chart := string(draw([]load{l}))
	require.Contains(t, chart, "a &lt; b (100 texts)")
	require.Contains(t, chart, "COMMIT: 0.200 ms")
}

func TestWhatIsNoTraceIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	require.NoError(t, os.WriteFile(file, []byte("no trace"), 0o600))
	require.ErrorContains(t, run([]string{"load=" + file}, "", os.Stdout), file)
	require.ErrorContains(t, run([]string{file}, "", os.Stdout), "LABEL=FILE")
}
