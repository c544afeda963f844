package users

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"parley/internal/store"
	"parley/internal/store/sqlite"
	"parley/internal/wire"
)

const firstUID = 1001

// depsOver returns the dependencies of Users with a store of the given number of users, each a friend of the next.
func depsOver(t *testing.T, users int) *Deps {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "parley.db"))
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	require.NoError(t, s.Migrate(t.Context()))
	var seeded []store.NewUser
	var pairs [][2]int32
	for i := range int32(users) {
		name := fmt.Sprint("user", i+1)
		seeded = append(seeded, store.NewUser{Name: name, Email: name + "@example.com", PasswordHash: "x", Nick: name})
		if i > 0 {
			pairs = append(pairs, [2]int32{firstUID + i - 1, firstUID + i})
		}
	}
	require.NoError(t, s.Seed.Users(t.Context(), firstUID, seeded))
	_, err = s.Seed.Friends(t.Context(), pairs)
	require.NoError(t, err)
	observe := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "loads"})
	return &Deps{
		Log: slog.New(slog.DiscardHandler), Store: s.Users, Timeout: 15 * time.Second, Loads: observe, LoadSeconds: observe,
		Panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "panics"}),
	}
}

func TestUsersThatWaitAreReadTogether(t *testing.T) {
	const users = 40
	l := newLoader(depsOver(t, users)) // nothing serves its queue yet
	var wg sync.WaitGroup
	got := make([]*store.UserData, users)
	for i := range users {
		wg.Go(func() {
			var err error
			if got[i], err = l.load(t.Context(), firstUID+int32(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Go(func() {
		if _, err := l.load(t.Context(), firstUID-1); wire.CodeOf(err) != wire.CodeUIDInvalid {
			t.Errorf("nobody: %v", err)
		}
	})
	require.Eventually(t, func() bool { return l.calls.Waiting() == users+1 }, 15*time.Second, time.Millisecond, "all wait")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); l.run(ctx) }()
	wg.Wait()
	stop()
	<-ended
	for i, u := range got {
		require.Equal(t, firstUID+int32(i), u.Profile.UID)
		require.NotEmpty(t, u.Friends)
	}
}

func TestALoadThatNobodyServesEndsInTime(t *testing.T) {
	l := newLoader(depsOver(t, 1))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := l.load(ctx, firstUID)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestAPanicInALoaderIsAnError(t *testing.T) {
	l := newLoader(depsOver(t, 1))
	l.read = func(context.Context, []int32) (map[int32]*store.UserData, error) { panic("in the store") }
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); l.run(ctx) }()
	data, err := l.load(t.Context(), firstUID)
	require.ErrorContains(t, err, "panic")
	require.Nil(t, data)
	stop()
	<-ended
}
