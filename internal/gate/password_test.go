package gate

import (
	"strings"
	"testing"
	"testing/quick"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

func TestTransformIsTheClients(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"of the specification", "abc123", "gde745"},
		{"empty", "", ""},
		{"one", "a", "`"},
		{"units are counted, not bytes", "密码密码密码", "寀砇寀砇寀砇"},
		{"a pair stays a pair and counts twice", "😀abcd", Transform("😀abcd")},
		{"254 units", strings.Repeat("a", 254), strings.Repeat("\u009f", 254)},
		{"255 units: the key is 0", strings.Repeat("a", 255), strings.Repeat("a", 255)},
	} {
		require.Equal(t, tc.want, Transform(tc.in), tc.name)
	}
	require.NoError(t, quick.Check(func(s string) bool {
		s = strings.ToValidUTF8(s, "?")
		return Transform(Transform(s)) == s
	}, nil))
}

func TestStoredHashIsPHC(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *Config) { c.Hash = DefaultConfig().Hash })
	f.newUser("alice", "alice@example.com", "gde745")
	f.newUser("bob", "bob@example.com", "gde745")
	a, b := f.stored("alice@example.com"), f.stored("bob@example.com")
	require.Regexp(t, `^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`, a)
	require.NotEqual(t, a, b, "salts are random")
	require.Equal(t, wire.CodeOK, f.login("alice@example.com", "gde745").Error)
}

func TestParsePHCRefuses(t *testing.T) {
	salt, key := strings.Repeat("A", 22), strings.Repeat("A", 43)
	good := "$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + key
	_, err := parsePHC(good)
	require.NoError(t, err)
	for _, tc := range []struct {
		name, in string
		want     error
	}{
		{"empty", "", errBadHash},
		{"a legacy row", "gde745", errBadHash},
		{"argon2i", strings.Replace(good, "argon2id", "argon2i", 1), errBadHash},
		{"another version", strings.Replace(good, "v=19", "v=16", 1), errBadHash},
		{"no version", strings.Replace(good, "v=19$", "", 1), errBadHash},
		{"no memory", strings.Replace(good, "m=64", "m=0", 1), errBadHash},
		{"no passes", strings.Replace(good, "t=1", "t=0", 1), errBadHash},
		{"no lanes", strings.Replace(good, "p=1", "p=0", 1), errBadHash},
		{"negative", strings.Replace(good, "t=1", "t=-1", 1), errBadHash},
		{"words", strings.Replace(good, "t=1", "t=x", 1), errBadHash},
		{"trailing", strings.Replace(good, "p=1", "p=1,x=1", 1), errBadHash},
		{"too much memory", strings.Replace(good, "m=64", "m=131073", 1), errHashCost},
		{"all of it", strings.Replace(good, "m=64", "m=4294967295", 1), errHashCost},
		{"more than a number holds", strings.Replace(good, "m=64", "m=4294967296", 1), errBadHash},
		{"too many passes", strings.Replace(good, "t=1", "t=17", 1), errHashCost},
		{"too many lanes", strings.Replace(good, "m=64,t=1,p=1", "m=1024,t=1,p=17", 1), errHashCost},
		{"short salt", strings.Replace(good, salt, "AAAA", 1), errBadHash},
		{"no base64", strings.Replace(good, salt, "!!!!", 1), errBadHash},
		{"short key", strings.Replace(good, key, "AAAA", 1), errBadHash},
		{"no key", strings.TrimSuffix(good, "$"+key), errBadHash},
		{"huge", "$argon2id$" + strings.Repeat("A", 1<<16), errBadHash},
	} {
		_, err := parsePHC(tc.in)
		require.ErrorIs(t, err, tc.want, tc.name)
	}
}

func FuzzParsePHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=64,t=1,p=1$" + strings.Repeat("A", 22) + "$" + strings.Repeat("A", 43))
	f.Add("$argon2id$v=19$m=64,t=1,p=1$$")
	f.Add("gde745")
	f.Fuzz(func(t *testing.T, stored string) {
		h, err := parsePHC(stored)
		if err == nil && (h.memoryKiB > maxHashMemoryKiB || h.passes > maxHashPasses || h.lanes > maxHashLanes || h.lanes == 0) {
			t.Fatalf("%q was accepted with %+v", stored, h.hashParams)
		}
	})
}
