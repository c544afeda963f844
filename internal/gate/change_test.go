package gate

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/presence"
	"parley/internal/wire"
)

func (f *fixture) change(email, old, passwd string) wire.Code {
	return f.call("/change_password", map[string]any{"email": email, "passwd": old, "newpasswd": passwd}).Error
}

func TestChangePasswordEndsWhatTheOldOneOpened(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	uid := f.newUser("alice", "a@example.com", "oldpass")
	require.Equal(t, wire.CodeOK, f.login("a@example.com", "oldpass").Error)
	require.NoError(t, presence.SeedGeneration(ctx, f.rdb))
	require.NoError(t, f.presence.Leases.Take(ctx, presence.Lease{Name: "chat1", Boot: "b1", ClientAddr: "127.0.0.1:1", RPCAddr: f.chatAddr}, ""))
	_, err := f.presence.Sessions.Restore(ctx, []presence.Location{{UID: uid, SID: "s1", Node: "chat1", Boot: "b1"}})
	require.NoError(t, err)
	require.NoError(t, f.presence.Leases.ReportLoad(ctx, "chat1", 1, nil))
	placed, err := f.presence.Nodes.Place(ctx, []int32{uid})
	require.NoError(t, err)

	require.Equal(t, wire.CodePasswdInvalid, f.change("a@example.com", "wrong1", "newpass"))
	require.Equal(t, wire.CodePasswdInvalid, f.change("nobody@example.com", "oldpass", "newpass"))
	require.Equal(t, wire.CodeBadRequest, f.change("a@example.com", "oldpass", "short"))
	good, err := f.presence.Tokens.Check(ctx, uid, placed[0].Token)
	require.NoError(t, err)
	require.True(t, good, "what was refused changes nothing")
	require.Equal(t, `{"error":0,"email":"A@example.com"}`,
		f.post("/change_password", `{"email":"A@example.com","passwd":"oldpass","newpasswd":"newpass"}`))

	good, err = f.presence.Tokens.Check(ctx, uid, placed[0].Token)
	require.NoError(t, err)
	require.False(t, good, "a token from before")
	require.Eventually(t, func() bool {
		f.chat.mu.Lock()
		defer f.chat.mu.Unlock()
		return len(f.chat.kicked) == 1 && f.chat.kicked[0] == fmt.Sprintf("%d/s1", uid)
	}, patience, time.Millisecond)
	require.Equal(t, wire.CodePasswdInvalid, f.login("a@example.com", "oldpass").Error)
	require.Equal(t, wire.CodeOK, f.login("a@example.com", "newpass").Error)
}

func TestChangePasswordAsTyped(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.rawUser("old", "a@example.com", Transform("oldpass")) // a row of llfcchat's
	require.Equal(t, wire.CodeOK, f.call("/change_password",
		map[string]any{"plain": true, "email": "a@example.com", "passwd": "oldpass", "newpasswd": "newpass"}).Error)
	require.Equal(t, wire.CodeOK, f.call("/user_login", map[string]any{"plain": true, "email": "a@example.com", "passwd": "newpass"}).Error)
	require.Equal(t, wire.CodeOK, f.login("a@example.com", Transform("newpass")).Error)
}

// S3: guesses through this route count like guesses at the login.
func TestChangePasswordIsNoWayAroundTheLock(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.newUser("alice", "a@example.com", "oldpass")
	for range 3 {
		require.Equal(t, wire.CodePasswdInvalid, f.change("a@example.com", "wrong1", "newpass"))
	}
	for range 2 {
		require.Equal(t, wire.CodePasswdInvalid, f.login("a@example.com", "wrong1").Error)
	}
	require.Equal(t, wire.CodeRateLimited, f.change("a@example.com", "oldpass", "newpass"))
	require.Equal(t, wire.CodeRateLimited, f.login("a@example.com", "oldpass").Error)
}

func TestOneOfManyChangesAtOnceWins(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.newUser("alice", "a@example.com", "oldpass")
	codes := make([]wire.Code, 4)
	var wg sync.WaitGroup
	for i := range codes {
		wg.Go(func() { codes[i] = f.change("a@example.com", "oldpass", fmt.Sprintf("newpass%d", i)) })
	}
	wg.Wait()
	won := -1
	for i, code := range codes {
		if code == wire.CodeOK {
			require.Negative(t, won, "two changed it")
			won = i
			continue
		}
		require.Equal(t, wire.CodePasswdInvalid, code)
	}
	require.GreaterOrEqual(t, won, 0)
	require.Equal(t, wire.CodeOK, f.login("a@example.com", fmt.Sprintf("newpass%d", won)).Error)
}
