package main

import (
	"bytes"
	"context"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// fixed is a benchmark with constant results.
var fixed = sample{ratio: 0.8, allocs: 6, bytes: 400}

// five returns the samples of five rounds, each modified by f.
func five(f func(*sample)) samples {
	var s []sample
	for range 5 {
		one := fixed
		f(&one)
		s = append(s, one)
	}
	return samples{"wire BenchmarkX": s}
}

func TestWhatIsARegression(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*sample)
		worse  string
	}{
		"the same":               {func(*sample) {}, ""},
		"20 % slower throughout": {func(s *sample) { s.ratio *= 1.2 }, ""},
		"20 % of noise":          {func(s *sample) { s.ratio *= 0.8 + 0.4*rand.Float64() }, ""},
		"twice as slow":          {func(s *sample) { s.ratio *= 2 }, "2.00 times as long"},
		"twice as slow in noise": {func(s *sample) { s.ratio *= 2 * (0.8 + 0.4*rand.Float64()) }, "times as long"},
		"one more allocation":    {func(s *sample) { s.allocs++ }, "allocates 7 times, was 6"},
		"a pool was emptied once": {func() func(*sample) {
			n := 0
			return func(s *sample) {
				if n++; n < 5 {
					s.allocs++
				}
			}
		}(), ""},
		"larger allocations": {func(s *sample) { s.bytes += 100 }, "allocates 500 bytes, was 400"},
		"a few more bytes":   {func(s *sample) { s.bytes += 20 }, ""},
		"faster":             {func(s *sample) { s.ratio, s.allocs, s.bytes = 0.1, 0, 0 }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			faults := compare(map[string]sample{"wire BenchmarkX": fixed}, five(tc.change), false)
			if tc.worse == "" {
				require.Empty(t, faults)
				return
			}
			require.Contains(t, faults["wire BenchmarkX"], tc.worse)
			require.Equal(t, targets[:2], suspects(faults), "its package is measured again")
		})
	}
}

func TestOneHickupIsNoRegression(t *testing.T) {
	found := five(func(*sample) {})
	found["wire BenchmarkX"][1].ratio *= 10
	found["wire BenchmarkX"][3].ratio *= 10
	require.Empty(t, compare(map[string]sample{"wire BenchmarkX": fixed}, found, false))
}

func TestTimeCanBeLeftOut(t *testing.T) {
	base := map[string]sample{"wire BenchmarkX": fixed}
	require.Empty(t, compare(base, five(func(s *sample) { s.ratio *= 5 }), true))
	require.NotEmpty(t, compare(base, five(func(s *sample) { s.allocs++ }), true))
}

func TestABenchmarkThatIsNotGuardedIsAFault(t *testing.T) {
	require.Contains(t, compare(nil, five(func(*sample) {}), false)["wire BenchmarkX"], "not in the baseline")
	require.Contains(t, compare(map[string]sample{"wire BenchmarkX": fixed}, nil, false)["wire BenchmarkX"], "did not run")
}

func TestTheBaselineReadsBack(t *testing.T) {
	base, err := parseBaseline(string(format(five(func(*sample) {}))))
	require.NoError(t, err)
	require.Equal(t, map[string]sample{"wire BenchmarkX": fixed}, base)
	_, err = parseBaseline("wire BenchmarkX 0.8 six 400\n")
	require.ErrorContains(t, err, "six")
}

func TestParse(t *testing.T) {
	lines, err := parse(`goos: linux
BenchmarkAppend/sqlite/1x16    	     100	   3194744 ns/op	   1427180 cpu-ns/op	      5008 rows/s	   21269 B/op	     276 allocs/op
PASS
`)
	require.NoError(t, err)
	require.Equal(t, map[string]line{"BenchmarkAppend/sqlite/1x16": {1427180, 276, 21269}}, lines)
	_, err = parse("BenchmarkX 10 5 ns/op 3 B/op 1 allocs/op\n")
	require.ErrorContains(t, err, "BenchmarkX reports no cpu-ns/op")
}

// TestNoBenchmarkIsLeftOut compares the targets and the baseline with the benchmarks in the tree.
func TestNoBenchmarkIsLeftOut(t *testing.T) {
	text, err := os.ReadFile("baseline.txt")
	require.NoError(t, err)
	base, err := parseBaseline(string(text))
	require.NoError(t, err)
	name := regexp.MustCompile(`(?m)^func (Benchmark\w+)`)
	found := 0
	require.NoError(t, filepath.WalkDir("../../internal", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		code, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range name.FindAllSubmatch(code, -1) {
			pkg, bench := filepath.Base(filepath.Dir(path)), string(m[1])
			if notGuarded[bench] {
				continue
			}
			found++
			require.Contains(t, string(code), "cputime.Report(", "%s of %s must report its processor time", bench, pkg)
			require.True(t, aimedAt(pkg, bench), "no target runs %s of %s", bench, pkg)
			require.True(t, guarded(base, pkg, bench), "the baseline lacks %s of %s", bench, pkg)
		}
		return nil
	}))
	require.Greater(t, found, 15)
}

// notGuarded lists benchmarks that are run on request, not for each change.
var notGuarded = map[string]bool{"BenchmarkGrowth": true, "BenchmarkSync": true, "BenchmarkChurn": true, "BenchmarkPair": true}

func aimedAt(pkg, bench string) bool {
	for _, t := range targets {
		for _, alternative := range strings.Split(t.pattern, "|") {
			top, _, _ := strings.Cut(alternative, "/")
			if t.pkg == pkg && regexp.MustCompile(top).MatchString(bench) {
				return true
			}
		}
	}
	return false
}

func guarded(base map[string]sample, pkg, bench string) bool {
	for name := range base {
		if top, _, _ := strings.Cut(name, "/"); top == pkg+" "+bench {
			return true
		}
	}
	return false
}

func TestTroubleIsNoRegression(t *testing.T) {
	var out bytes.Buffer
	require.Equal(t, exitTrouble, run(context.Background(), []string{"-rounds", "many"}, &out))
}
