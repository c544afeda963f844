package watch

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/google/pprof/profile"
)

// profileSlack is how long after its time a profile may take to arrive.
const profileSlack = 30 * time.Second

// Profile has a process profile its processor time for d. It returns how much of that was spent in calls of functions
// whose names match each expression; what matches an earlier one does not count for a later one.
func Profile(ctx context.Context, addr string, d time.Duration, match ...*regexp.Regexp) ([]time.Duration, error) {
	seconds := max(int(d.Seconds()), 1)
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+profileSlack)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", addr, seconds), nil)
	if err != nil {
		return nil, fmt.Errorf("watch: profile: %w", err)
	}
	rsp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("watch: profile: %w", err)
	}
	defer rsp.Body.Close()
	p, err := profile.Parse(rsp.Body)
	if err != nil {
		return nil, fmt.Errorf("watch: profile of %s: %w", addr, err)
	}
	used := make([]time.Duration, len(match))
	for _, s := range p.Sample {
		of := slices.IndexFunc(match, func(m *regexp.Regexp) bool {
			return slices.ContainsFunc(s.Location, func(l *profile.Location) bool {
				return slices.ContainsFunc(l.Line, func(line profile.Line) bool { return m.MatchString(line.Function.Name) })
			})
		})
		if of >= 0 {
			used[of] += time.Duration(s.Value[len(s.Value)-1]) // the samples of a processor profile end with nanoseconds
		}
	}
	return used, nil
}
