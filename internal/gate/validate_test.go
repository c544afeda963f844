package gate

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCleanEmail(t *testing.T) {
	for in, want := range map[string]string{
		"a@b.c": "a@b.c", "Alice.B+tag@Example.COM": "alice.b+tag@example.com", "a@localhost": "a@localhost", "a_b@c-d.e": "a_b@c-d.e",
		"": "", "a": "", "@": "", "a@": "", "@b": "", "a@b@c": "", "a b@c.d": "", "a@b..c": "", "a@.b": "", "a@b.": "", ".a@b.c": "", "a.@b.c": "",
		"a..b@c.d": "", "a{b}@c.d": "", "a@{b}.d": "", "a\r\nTo: x@b.c": "", "a@b\n.c": "", "<a@b.c>": "", "\"a\"@b.c": "", "\u212a@b.c": "", "a@b.c\x00": "", "a@-b.c": "",
	} {
		got, ok := cleanEmail(in)
		require.Equal(t, want, got, "%q", in)
		require.Equal(t, want != "", ok, "%q", in)
	}
}
