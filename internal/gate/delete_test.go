package gate

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/presence"
	"parley/internal/store"
	"parley/internal/wire"
)

func TestADeletedAccountLeavesNothingThatLogsIn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	uid := f.newUser("Alice", "Alice@example.com", "gde745")
	friend := f.rawUser("bob", "b@example.com", "x")
	_, err := f.store.Seed.Friends(t.Context(), [][2]int32{{uid, friend}})
	require.NoError(t, err)
	// A session on a live node, a token, and caches.
	lease := presence.Lease{Name: "chat1", Boot: "boot1", ClientAddr: "127.0.0.1:1", RPCAddr: f.chatAddr, StartedMS: time.Now().UnixMilli()}
	require.NoError(t, f.presence.Leases.Take(t.Context(), lease, ""))
	require.NoError(t, f.presence.Leases.ReportLoad(t.Context(), "chat1", 1, nil))
	_, err = f.presence.Sessions.Restore(t.Context(), []presence.Location{{UID: uid, Device: "phone", SID: "00000000000000aa", Node: "chat1", Boot: "boot1"}})
	require.NoError(t, err)
	require.NoError(t, f.presence.Cache.PutProfile(t.Context(), uid, "Alice", []byte(`{"uid":1}`)))
	before, err := f.presence.Cache.ListsVersion(t.Context(), friend)
	require.NoError(t, err)

	erase := func(email, passwd string) reply {
		return f.call("/delete_account", map[string]any{"email": email, "passwd": passwd})
	}
	require.Equal(t, wire.CodePasswdInvalid, erase("alice@example.com", "gde746").Error)
	require.Equal(t, wire.CodePasswdInvalid, erase("nobody@example.com", "gde745").Error)
	require.Equal(t, wire.CodeJSON, f.call("/delete_account", map[string]any{"email": "alice@example.com"}).Error)
	done := erase("alice@example.com", "gde745")
	require.Equal(t, wire.CodeOK, done.Error)
	require.Equal(t, uid, done.UID)
	require.Equal(t, wire.CodePasswdInvalid, erase("alice@example.com", "gde745").Error, "once")

	require.Equal(t, wire.CodePasswdInvalid, f.login("alice@example.com", "gde745").Error)
	f.chat.mu.Lock()
	require.Equal(t, []string{strconv.Itoa(int(uid)) + "/00000000000000aa"}, f.chat.kicked)
	f.chat.mu.Unlock()
	report, err := f.presence.Leases.Report(t.Context(), "chat1", 1, nil, presence.Kicks{})
	require.NoError(t, err)
	require.Equal(t, []presence.Kick{{UID: uid}}, report.Sessions, "nodes are told, for those who watch")
	require.True(t, f.mr.Exists("utokmin_"+strconv.Itoa(int(uid))), "tokens and tickets are refused")
	for _, get := range []func() ([]byte, error){
		func() ([]byte, error) { return f.presence.Cache.ProfileByUID(t.Context(), uid) },
		func() ([]byte, error) { return f.presence.Cache.ProfileByName(t.Context(), "alice") },
	} {
		data, err := get()
		require.NoError(t, err)
		require.Nil(t, data)
	}
	after, err := f.presence.Cache.ListsVersion(t.Context(), friend)
	require.NoError(t, err)
	require.NotEqual(t, before, after, "the friend's next login reads its lists anew")
	_, err = f.store.Users.Profile(t.Context(), uid)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NotEqual(t, uid, f.newUser("alice", "alice@example.com", "other1"), "name and address are free")
	require.NotContains(t, f.logs.String(), "gde745")
}

// The log says what happened to the account.
func TestLogSaysWhySessionsShouldHaveEnded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mr.SetError("LOADING")
	f.sessions.end(t.Context(), "account_deleted", 7, "alice", "a@example.com")
	f.mr.SetError("")
	require.Contains(t, f.logs.String(), "tokens not revoked")
	require.Contains(t, f.logs.String(), `"after":"account_deleted"`)
	require.NotContains(t, f.logs.String(), "password")
}

func TestDeletingAnAccountIsThrottledLikeALogin(t *testing.T) {
	f := newFixture(t)
	f.newUser("alice", "a@example.com", "abcdef")
	var last wire.Code
	for range f.cfg.Limits.AccountFailures + 1 {
		last = f.call("/delete_account", map[string]any{"email": "a@example.com", "passwd": "wrong1"}).Error
	}
	require.Equal(t, wire.CodeRateLimited, last)
	require.Equal(t, wire.CodeRateLimited, f.call("/delete_account", map[string]any{"email": "a@example.com", "passwd": "abcdef"}).Error)
}

func FuzzDeleteAccount(f *testing.F) {
	fuzzRoute(f, "/delete_account", `{"email":"a@example.com","passwd":"gde745"}`, `{"email":"a@example.com","passwd":"abc123","plain":true}`)
}
