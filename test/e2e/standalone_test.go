package e2e

import (
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/lab/certstest"
)

var gateLine = regexp.MustCompile(`gate +(http://\S+)`)

// The whole cluster runs in one process: two demo users exchange texts on different nodes, and the texts are still
// there after a restart.
func TestStandaloneKeepsUsersAndMessages(t *testing.T) {
	ownProcesses(t)
	data := t.TempDir()
	run := func() (p *process, gate string) {
		p = start(t, "standalone", "--free-ports", "--data", data)
		p.awaitPrint("Ctrl-C stops it")
		m := gateLine.FindStringSubmatch(p.printed())
		require.NotNil(t, m, p.printed())
		require.Contains(t, p.printed(), "parleyctl chat --gate "+m[1])
		return p, m[1]
	}
	stop := func(p *process) {
		p.signal(syscall.SIGTERM)
		require.Zero(t, p.wait(patience))
		require.Contains(t, p.printed(), "are kept in "+data)
	}
	chat := func(gate, name, to, said string, more ...string) *process {
		args := append([]string{"chat", "--gate", gate, "--email", name + "@example.com", "--to", to}, more...)
		return startWith(t, said, []string{"PARLEY_PASSWORD=" + name + "-demo"}, "parleyctl", args...)
	}

	p, gate := run()
	bob := chat(gate, "bob", "alice", "", "--wait", "60s")
	bob.awaitPrint("bob")
	alice := chat(gate, "alice", "bob", "hello bob\n/quit\n")
	require.Zero(t, alice.wait(patience), alice.printed())
	bob.awaitPrint("alice: hello bob")
	nodes := []string{nodeOf(t, alice), nodeOf(t, bob)}
	require.NotEqual(t, nodes[0], nodes[1], "each on a node of its own")
	bob.signal(syscall.SIGTERM)
	require.Zero(t, bob.wait(patience), bob.printed())

	g, err := client.NewGate(gate)
	require.NoError(t, err)
	require.NoError(t, g.RequestCode(t.Context(), "carol@example.com"))
	p.awaitPrint(devMail)
	_, err = g.Register(t.Context(), client.Registration{
		Name: "carol", Email: "carol@example.com", Password: "carol-secret", Code: printedCode(t, p.printed(), "carol@example.com"),
	})
	require.NoError(t, err)
	stop(p)

	p, gate = run()
	g, err = client.NewGate(gate)
	require.NoError(t, err)
	ticket, err := g.Login(t.Context(), "carol@example.com", "carol-secret")
	require.NoError(t, err)
	c, err := client.Dial(t.Context(), ticket, client.Options{})
	require.NoError(t, err)
	defer c.Close()
	bob = chat(gate, "bob", "alice", "/history\n/quit\n")
	require.Zero(t, bob.wait(patience), bob.printed())
	require.Contains(t, bob.printed(), "alice: hello bob")
	c.Close()
	stop(p)
}

// nodeOf returns the chat node that parleyctl reports for its session.
func nodeOf(t testing.TB, p *process) string {
	t.Helper()
	name := regexp.MustCompile(`\bchat\d\b`).FindString(p.printed())
	require.NotEmpty(t, name, p.printed())
	return name
}

func TestStandaloneThrowsDataAwayWhenTold(t *testing.T) {
	ownProcesses(t)
	cert, key, trust, _ := certstest.Make(t)
	p := start(t, "standalone", "--free-ports", "--data", "", "--nodes", "1", "--tls-cert", cert, "--tls-key", key)
	p.awaitPrint("Ctrl-C stops it")
	page := regexp.MustCompile(`https://\S+`).FindString(p.printed())
	g, err := client.NewGate(page)
	require.NoError(t, err)
	g.HTTP = &http.Client{Transport: &http.Transport{TLSClientConfig: trust, DisableKeepAlives: true}}
	for via, scheme := range map[string]string{client.TransportTLS: "tls://", client.TransportWSS: "wss://"} {
		g.Transport = via
		ticket, err := g.Login(t.Context(), "alice@example.com", "alice-demo")
		require.NoError(t, err)
		require.Contains(t, p.printed(), strings.TrimPrefix(ticket.Addr, "tls://"))
		require.True(t, strings.HasPrefix(ticket.Addr, scheme), ticket.Addr)
		c, err := client.Dial(t.Context(), ticket, client.Options{TLS: trust})
		require.NoError(t, err)
		require.NoError(t, c.Close())
	}
	require.Contains(t, p.printed(), "thrown away at exit")
	p.signal(syscall.SIGTERM)
	require.Zero(t, p.wait(patience))
	require.True(t, strings.Contains(p.printed(), "the data was thrown away"))
	for _, wrong := range []string{"--nodes=0", "--tls-key=" + key} {
		p = start(t, "standalone", wrong, "--free-ports", "--data", "")
		require.Equal(t, exitUsage, p.wait(patience), wrong)
	}
}
