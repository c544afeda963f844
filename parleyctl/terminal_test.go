package main

import (
	"context"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/standalone"
)

// sit runs a chat of a demo user at a terminal. What the user types goes to in, what the terminal shows is out.
func sit(t *testing.T, gate string, user int, more ...string) *running {
	t.Helper()
	state := filepath.Join(t.TempDir(), "state.json")
	e := &environment{person: true, stateFile: func(string, string, string) string { return state }}
	e.screen = func(context.Context) (*screen, func(), error) {
		return newScreen(struct {
			io.Reader
			io.Writer
		}{e.in, e.out}, func() int { return 80 }), func() {}, nil
	}
	return startIn(t, e, login(gate, user, more...)...)
}

func (p *running) types(s string) {
	_, err := io.WriteString(p.in, s)
	require.NoError(p.t, err, "the chat has ended; said:\n%s%s", p.out.String(), p.err.String())
}

// F2: the order of the README. Bob was never here before.
func TestWhoComesLaterSeesWhatWasWritten(t *testing.T) {
	gate, _ := startCluster(t)
	alice := sit(t, gate, 0, "--to=bob")
	sees(t, &alice.out, "texts go to bob")
	alice.types("hello bob\r")
	sees(t, &alice.out, "] alice: hello bob ✓\r\n")
	bob := sit(t, gate, 1, "--to=alice")
	sees(t, &bob.out, "] alice: hello bob\r\n")
	sees(t, &alice.out, "* ✓✓ read by bob\r\n")
	alice.types("/read\r")
	sees(t, &alice.out, "* ✓✓ your last text was read by bob\r\n")
	bob.types("\x04")
	require.Zero(t, bob.ends())
	require.Equal(t, 1, strings.Count(bob.out.String(), "hello bob"))
}

// A node that is too busy to answer with a page of history is no reason to leave.
func TestAChatBeginsWithoutThePastThatCannotBeShown(t *testing.T) {
	gate, _ := startCluster(t)
	g, err := client.NewGate(strings.TrimPrefix(gate, "--gate="))
	require.NoError(t, err)
	alice := standalone.Demo[0]
	s, err := client.Open(t.Context(), client.SessionOptions{Gate: g, Email: alice.Email, Password: alice.Password})
	require.NoError(t, err)
	defer s.Close()
	for to, want := range map[string]string{"bob": "", "nobody": "context canceled"} {
		var out, said mail
		chat := newTalk(&chatCmd{To: to}, &environment{out: &out, err: &said}, s)
		chat.person, chat.fresh = true, true
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // nothing can be read
		if err := chat.begin(ctx); want == "" {
			require.NoError(t, err)
			require.Contains(t, said.String(), "texts go to bob")
			require.Contains(t, said.String(), "context canceled")
		} else {
			require.ErrorContains(t, err, want)
		}
	}
}

func TestTextsMissedAreShownAtTheNextStart(t *testing.T) {
	gate, _ := startCluster(t)
	state := "--state=" + filepath.Join(t.TempDir(), "bob.json")
	bob := sit(t, gate, 1, "--to=alice", state)
	sees(t, &bob.out, "texts go to alice")
	bob.types("/quit\r")
	require.Zero(t, bob.ends())
	alice := sit(t, gate, 0, "--to=bob")
	sees(t, &alice.out, "texts go to bob")
	alice.types("while you were away\r")
	sees(t, &alice.out, "while you were away ✓")
	bob = sit(t, gate, 1, state)
	sees(t, &bob.out, "] alice: while you were away\r\n")
	require.NotContains(t, bob.out.String(), "warm", "what was seen before is not shown again")
	require.Contains(t, bob.out.String(), "* alice: 1 unread\r\n")
	require.NotContains(t, alice.out.String(), "✓✓", "it is not the current conversation")
	bob.types("/threads\r/to alice\r")
	sees(t, &bob.out, "texts, 1 unread\r\n")
	sees(t, &alice.out, "* ✓✓ read by bob\r\n")
	bob.types("/quit\r") // it writes its state at the end, into a directory that is about to go
	require.Zero(t, bob.ends())
}

func TestAnIncomingTextLeavesTheLineThatIsTyped(t *testing.T) {
	gate, _ := startCluster(t)
	alice, bob := sit(t, gate, 0, "--to=bob"), sit(t, gate, 1, "--to=alice")
	sees(t, &alice.out, "texts go to bob")
	sees(t, &bob.out, "texts go to alice")
	alice.types("half a sen")
	sees(t, &alice.out, "> half a sen")
	bob.types("here I am\r")
	sees(t, &alice.out, "] bob: here I am\r\n> half a sen")
	alice.types("tence\r")
	sees(t, &bob.out, "] alice: half a sentence\r\n")
}

func TestAGroupThatOneMadeOrJoinedIsToldOfTyping(t *testing.T) {
	gate, _ := startCluster(t)
	alice, bob := sit(t, gate, 0, "--to=bob"), sit(t, gate, 1, "--to=alice")
	sees(t, &alice.out, "texts go to bob")
	sees(t, &bob.out, "texts go to alice")
	alice.types("/group new club\r/group link\r")
	sees(t, &alice.out, "they join with /group join ")
	bob.types("/group join " + regexp.MustCompile(`/group join ([^\s\x1b]+)`).FindStringSubmatch(alice.out.String())[1] + "\r")
	sees(t, &bob.out, "texts go to the group club (#")
	for _, p := range []struct {
		who, other *running
		shown      string
	}{{alice, bob, "alice is typing in club"}, {bob, alice, "bob is typing in club"}} {
		for deadline := time.Now().Add(patience); !strings.Contains(p.other.out.String(), p.shown); time.Sleep(10 * time.Millisecond) {
			require.True(t, time.Now().Before(deadline), "never: %q; only:\n%s", p.shown, p.other.out.String())
			p.who.types("x")
		}
		require.NotContains(t, p.other.out.String(), "is typing\r\n")
	}
}
