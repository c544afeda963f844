package chat

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
	"parley/internal/wire"
)

func TestUsersThatWaitAreReadTogether(t *testing.T) {
	const users = 40
	f := newFixture(t, users)
	n := f.start("chat1")
	l := newLoader(n.Server) // which nobody serves yet
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
	eventually(t, "all to wait", func() bool { return len(l.queue) == users+1 })
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
	f := newFixture(t, 1)
	l := newLoader(f.start("chat1").Server)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	for range cap(l.queue) + 1 {
		_, err := l.load(ctx, firstUID)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
}

func TestAPanicInALoaderIsAnError(t *testing.T) {
	f := newFixture(t, 1)
	l := newLoader(f.start("chat1").Server)
	l.read = func(context.Context, []int32) (map[int32]*store.UserData, error) { panic("in the store") }
	j := &load{uid: firstUID, done: make(chan struct{})}
	l.serve(t.Context(), []*load{j})
	<-j.done
	require.ErrorContains(t, j.err, "panic")
	require.Nil(t, j.data)
}
