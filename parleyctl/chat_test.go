package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/standalone"
	"parley/internal/wire"
)

// mail is where the cluster of the tests prints verification codes.
type mail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (m *mail) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.b.Write(b)
}

func (m *mail) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.b.String()
}

// code returns the last code mailed to an address.
func (m *mail) code(t *testing.T, email string) string {
	t.Helper()
	found := regexp.MustCompile(`to=`+regexp.QuoteMeta(email)+` code=(\w+)`).FindAllStringSubmatch(m.String(), -1)
	require.NotEmpty(t, found)
	return found[len(found)-1][1]
}

// startCluster runs a whole cluster of two chat nodes and returns the flag that names its gate. It makes the test parallel:
// people and clusters wait.
func startCluster(t *testing.T) (gate string, letters *mail) {
	t.Helper()
	t.Parallel()
	letters = new(mail)
	o := standalone.LocalOptions()
	o.Codes = letters
	c, err := standalone.Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Log("cluster:", err) // its own tests judge it
		}
	})
	warm(t, c.GateURL())
	return "--gate=" + c.GateURL(), letters
}

// patience bounds what takes no promised time, on a machine that is busy with other things too.
const patience = time.Minute

// warm waits until texts cross between the two nodes at once: a push is only a hint, and one to a node that has come up
// this very second may be lost.
func warm(t *testing.T, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	gate, err := client.NewGate(address)
	require.NoError(t, err)
	conns := make([]*client.Conn, 2)
	for i, u := range standalone.Demo {
		var ticket client.Ticket
		for { // nor is a node that has come up, or was late with its lease, given users at once
			if ticket, err = gate.Login(ctx, u.Email, u.Password); client.CodeOf(err) != client.Code(wire.CodeRPC) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		require.NoError(t, err)
		conns[i], err = client.Dial(ctx, ticket, client.Options{Device: "warm"})
		require.NoError(t, err)
		defer func() { conns[i].Close(); <-conns[i].Done() }()
	}
	for i, c := range conns {
		other := conns[1-i]
		for arrived := false; !arrived; {
			_, err := c.SendText(ctx, client.User(other.Profile().UID), "warm")
			require.NoError(t, err)
			soon, stop := context.WithTimeout(ctx, 200*time.Millisecond)
			ev, err := other.Next(soon)
			stop()
			_, arrived = ev.(client.Texts)
			if !arrived {
				require.ErrorIs(t, err, context.DeadlineExceeded)
			}
		}
	}
}

// login returns the arguments of a chat as one of the demo users, in front of more.
func login(gate string, user int, more ...string) []string {
	u := standalone.Demo[user]
	return append([]string{"chat", gate, "--email=" + u.Email, "--password=" + u.Password}, more...)
}

// running is a chat whose standard input the test writes line by line.
type running struct {
	t        *testing.T
	in       *io.PipeWriter
	out, err mail
	code     chan int
	ended    chan struct{} // closed after code has the exit code
	stop     context.CancelFunc
}

func start(t *testing.T, person bool, args ...string) *running {
	t.Helper()
	return startIn(t, &environment{person: person}, args...)
}

// startIn is start in an environment of which it sets the streams. A chat that the test leaves open has ended before the
// test's directories go: at its end it writes its state into one of them.
func startIn(t *testing.T, e *environment, args ...string) *running {
	t.Helper()
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	p := &running{t: t, in: w, code: make(chan int, 1), ended: make(chan struct{}), stop: cancel}
	e.ctx, e.in, e.out, e.err = ctx, r, &p.out, &p.err
	go func() {
		defer close(p.ended)
		p.code <- run(e, args)
		r.Close() // who types goes on to learn it
	}()
	t.Cleanup(func() {
		cancel()
		w.Close()
		r.Close()
		select {
		case <-p.ended:
		case <-time.After(patience):
			t.Errorf("a chat does not end; said:\n%s", p.err.String())
		}
	})
	return p
}

func (p *running) line(format string, args ...any) {
	p.types(fmt.Sprintf(format+"\n", args...))
}

// sees waits until the text stands in the output.
func sees(t *testing.T, m *mail, text string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(m.String(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %q; only:\n%s", text, m.String())
		}
	}
}

// ends waits for the exit code.
func (p *running) ends() int {
	p.t.Helper()
	select {
	case code := <-p.code:
		return code
	case <-time.After(patience):
		p.t.Fatalf("does not end; said:\n%s", p.err.String())
		return -1
	}
}

var clock = regexp.MustCompile(`(?m)^\[(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d\] `)

// plain takes the times away.
func plain(out string) string { return clock.ReplaceAllString(out, "") }

func TestTwoPeopleTalk(t *testing.T) {
	gate, _ := startCluster(t)
	alice := start(t, true, login(gate, 0, "--to=bob")...)
	sees(t, &alice.err, "texts go to bob")
	bob := start(t, true, login(gate, 1, "--to=ALICE")...)
	sees(t, &bob.err, "texts go to alice")
	// One after the other, they are placed on different nodes.
	node := regexp.MustCompile(`on node (\w+)`)
	require.NotEqual(t, node.FindString(alice.err.String()), node.FindString(bob.err.String()))

	alice.line("hello\tbob")
	sees(t, &bob.out, "] alice: hello\\tbob\n")
	bob.line("hello alice\r")
	bob.line("//not a command")
	sees(t, &alice.out, "] bob: hello alice\n")
	sees(t, &alice.out, "] bob: /not a command\n")
	require.Regexp(t, `(?m)^\[\d\d:\d\d:\d\d\] bob: hello alice$`, alice.out.String())

	bob.line("/history 2")
	sees(t, &bob.out, "] bob: /not a command\n")
	bob.line("/threads")
	sees(t, &bob.err, "thread 1 with alice, ")
	bob.line("/to")
	bob.line("/friends")
	sees(t, &bob.err, "* alice (uid 1001)")
	bob.line("/help")
	sees(t, &bob.err, "/add NAME GREETING")

	// A person's slips do not fail the chat, and /quit ends it.
	bob.line("/dance")
	bob.line("/to nobody")
	bob.line("/history none")
	bob.line("/accept nobody")
	bob.line("/add alice x")
	bob.line("/add")
	sees(t, &bob.err, "no command /dance")
	sees(t, &bob.err, "there is no user nobody")
	sees(t, &bob.err, "/history N")
	sees(t, &bob.err, `no application from "nobody"`)
	sees(t, &bob.err, "alice is already your friend")
	sees(t, &bob.err, "/add NAME GREETING")
	bob.line("/quit")
	require.Equal(t, exitOK, bob.ends())

	// A second login with the same device ends the first.
	again := start(t, true, login(gate, 0)...)
	sees(t, &again.err, "logged in as alice")
	require.Equal(t, exitFail, alice.ends())
	require.Contains(t, alice.err.String(), "--device")
	// A signal ends a chat without fuss.
	again.stop()
	require.Equal(t, exitOK, again.ends())
	require.Empty(t, again.out.String())
}

func TestScript(t *testing.T) {
	gate, _ := startCluster(t)
	dir := t.TempDir()
	aliceState, bobState := "--state="+filepath.Join(dir, "alice"), "--state="+filepath.Join(dir, "bob")
	code, stdout, _ := execute(t, "", login(gate, 1, bobState)...)
	require.Equal(t, exitOK, code)
	require.Empty(t, stdout, "the first run begins at the present")

	var lines, want strings.Builder
	for i := range 500 {
		fmt.Fprintln(&lines, "line", i)
		fmt.Fprintln(&want, "alice: line", i)
	}
	code, stdout, stderr := execute(t, lines.String(), login(gate, 0, "--to=1002", "--echo", aliceState)...)
	require.Equal(t, exitOK, code, stderr)
	require.Equal(t, want.String(), plain(stdout))

	code, stdout, _ = execute(t, "", login(gate, 1, bobState)...)
	require.Equal(t, exitOK, code)
	require.Equal(t, want.String(), plain(stdout), "all that was missed")
	for user, file := range []string{aliceState, bobState} {
		code, stdout, _ = execute(t, "", login(gate, user, file)...)
		require.Equal(t, exitOK, code)
		require.Empty(t, stdout, "nothing is shown twice")
	}

	// Whoever waits after the end of input receives.
	waiting := start(t, false, login(gate, 1, bobState, "--wait=1h")...)
	waiting.in.Close()
	sees(t, &waiting.err, "logged in")
	code, _, _ = execute(t, "one\n\ntwo\n", login(gate, 0, "--to=bob")...)
	require.Equal(t, exitOK, code)
	sees(t, &waiting.out, "alice: two")
	require.Equal(t, "alice: one\nalice: two\n", plain(waiting.out.String()))
	waiting.stop()
	require.Equal(t, exitOK, waiting.ends())
}

func TestScriptsThatFail(t *testing.T) {
	gate, _ := startCluster(t)
	for name, c := range map[string]struct {
		in   string
		args []string
		want string
	}{
		"to nobody":      {"", login(gate, 0, "--to=nobody"), "there is no user nobody"},
		"to oneself":     {"", login(gate, 0, "--to=alice"), "alice is not your friend"},
		"no recipient":   {"text\n", login(gate, 0), "/to NAME"},
		"too long":       {strings.Repeat("x", 5000) + "\n", login(gate, 0, "--to=bob"), "too long"},
		"endless line":   {strings.Repeat("x", maxLine+1), login(gate, 0, "--to=bob"), "standard input"},
		"no command":     {"/fly\n", login(gate, 0), "no command /fly"},
		"wrong password": {"", append(login(gate, 0), "--password=wrong-one"), "wrong e-mail address or password"},
		"bad state":      {"", login(gate, 0, "--state=/dev/null"), "not a state file"},
		"bad device":     {"", login(gate, 0, "--device=A B"), "not valid"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := execute(t, c.in, c.args...)
			require.Equal(t, exitFail, code)
			require.Empty(t, stdout)
			require.Contains(t, stderr, c.want)
		})
	}
}

func TestNewcomer(t *testing.T) {
	gate, letters := startCluster(t)
	carol := []string{gate, "--email=carol@example.com"}
	code, _, stderr := execute(t, "", append([]string{"code"}, carol...)...)
	require.Equal(t, exitOK, code, stderr)
	carol = append(carol, "--password=carol-secret")
	code, _, stderr = execute(t, "", append([]string{"register", "--name=carol", "--code=" + letters.code(t, "carol@example.com")}, carol...)...)
	require.Equal(t, exitOK, code, stderr)

	alice := start(t, true, login(gate, 0)...)
	sees(t, &alice.err, "logged in as alice")
	chat := append([]string{"chat"}, carol...)
	code, _, stderr = execute(t, "/add alice hello, it is carol\n", chat...)
	require.Equal(t, exitOK, code, stderr)
	sees(t, &alice.err, `carol asks to be your friend: "hello, it is carol"; /accept carol`)

	waiting := start(t, true, chat...)
	sees(t, &waiting.err, "0 friends")
	alice.line("/accept carol")
	sees(t, &waiting.err, "alice is your friend now")
	sees(t, &waiting.out, "carol: hello, it is carol\n")
	alice.line("/to carol")
	alice.line("welcome")
	sees(t, &waiting.out, "alice: welcome\n")
	waiting.in.Close()
	require.Equal(t, exitOK, waiting.ends())
	alice.line("/quit")
	require.Equal(t, exitOK, alice.ends())
}
