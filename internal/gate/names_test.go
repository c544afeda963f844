package gate

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"

	"parley/internal/wire"
)

// D5, D6, D7: which names may be registered, and which are taken.
func TestNamesAtRegistration(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.Limits.CodesPerMailbox = 1000 })
	f.newUser("Alice", "alice@example.com", "abcdef")
	try := func(name string) reply {
		return f.call("/user_register", registration(name, "b@example.com", "abcdef", f.code("b@example.com")))
	}
	for _, name := range []string{"\u3164", "Alice\u3164", "Alice\uffa0", "Alice\u115f", "\u1160Alice", "1005", "１２", "Аlice", "a b", ""} {
		require.Equal(t, wire.CodeBadRequest, try(name).Error, "%+q", name)
	}
	for _, name := range []string{"alice", "ALICE", "Ａlice", "AIice", "A1ice"} {
		require.Equal(t, wire.CodeUserExist, try(name).Error, "%+q", name)
	}
	for i, name := range []string{"हिन्दी", "สมชาย", "தமிழ்", "Jose\u0301"} {
		email, stored := fmt.Sprintf("u%d@example.com", i), norm.NFC.String(name)
		r := f.call("/user_register", registration(name, email, "abcdef", f.code(email)))
		require.Equal(t, wire.CodeOK, r.Error, "%+q", name)
		require.Equal(t, stored, r.User)
		_, err := f.store.Users.ProfileByName(t.Context(), name)
		require.NoError(t, err)
	}
}

// D3: without the check, passwords that differ in half a surrogate pair would be equal.
func TestPasswordsAreUnicode(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.newUser("alice", "a@example.com", "abcdef")
	for _, half := range []string{`\ud800bcdef`, `abcde\udfff`, `abcde\ufffd`} {
		require.Equal(t, `{"error":2005}`, f.post("/user_register",
			`{"user":"bob","email":"b@example.com","passwd":"`+half+`","confirm":"`+half+`","varifycode":"123456"}`), half)
		require.Equal(t, `{"error":2005}`, f.post("/reset_pwd",
			`{"user":"alice","email":"a@example.com","passwd":"`+half+`","varifycode":"123456"}`), half)
		require.Equal(t, `{"error":2005}`, f.post("/change_password",
			`{"email":"a@example.com","passwd":"abcdef","newpasswd":"`+half+`"}`), half)
	}
}

// D12: the other fields sent by a client are stored too.
func TestRegisterStoresNickAndSex(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	in := registration("alice", "a@example.com", "abcdef", f.code("a@example.com"))
	in["nick"], in["sex"] = "Alice B. ☂", 1
	r := f.call("/user_register", in)
	require.Equal(t, wire.CodeOK, r.Error)
	p, err := f.store.Users.Profile(t.Context(), r.UID)
	require.NoError(t, err)
	require.Equal(t, "Alice B. ☂", p.Nick)
	require.Equal(t, int32(1), p.Sex)

	for _, nick := range []string{"\u3164", "a\nb", "\u200b"} {
		in := registration("bob", "b@example.com", "abcdef", "123456")
		in["nick"] = nick
		require.Equal(t, wire.CodeBadRequest, f.call("/user_register", in).Error, "%+q", nick)
	}
	in = registration("bob", "b@example.com", "abcdef", "123456")
	in["sex"] = -1
	require.Equal(t, wire.CodeBadRequest, f.call("/user_register", in).Error)
	in = registration("bob", "b@example.com", "abcdef", f.code("b@example.com"))
	delete(in, "nick")
	delete(in, "sex")
	r = f.call("/user_register", in)
	p, err = f.store.Users.Profile(t.Context(), r.UID)
	require.NoError(t, err)
	require.Equal(t, "bob", p.Nick)
}
