// Package conform runs the checks of lab/conform against clusters of this module.
package conform

import (
	"context"
	"flag"
	"os"
	"regexp"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/presence"
	"parley/internal/standalone"
	"parley/lab/certstest"
	"parley/lab/conform"
	"parley/lab/launch"
	"parley/lab/launchtest"
)

// TestMain runs two tests in parallel whatever -parallel says, because most checks wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "2"); err != nil {
		panic(err)
	}
	os.Exit(launchtest.Main(m))
}

// check runs the checks that match run (nil: all) or PARLEY_CHECKS, and fails for each failed check. skipped lists
// the only checks that may be skipped.
func check(t *testing.T, target conform.Target, run *regexp.Regexp, skipped ...string) {
	t.Helper()
	o := conform.Options{Run: run, Report: func(r conform.Result) {
		switch {
		case !r.OK:
			t.Errorf("FAIL %s: %s", r.Name, r.Err)
		case r.Skipped != "":
			t.Logf("skip %s: %s", r.Name, r.Skipped)
		default:
			t.Logf("ok   %s %v", r.Name, r.Took.Round(1e6))
		}
	}}
	if s := os.Getenv("PARLEY_CHECKS"); s != "" {
		o.Run = regexp.MustCompile(s)
	}
	results, err := conform.Run(t.Context(), target, o)
	require.NoError(t, err)
	for _, r := range results {
		if r.Skipped != "" {
			require.Contains(t, skipped, r.Name, "skipped: %s", r.Skipped)
		}
	}
}

func TestStandaloneConforms(t *testing.T) {
	t.Parallel() // most checks wait
	codes := new(conform.Codes)
	o := standalone.LocalOptions()
	o.Codes = codes
	c, err := standalone.Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	check(t, conform.Target{Gate: c.GateURL(), Status: []string{c.StatusAddr()}, Code: codes.Code}, nil, "status-authenticated")
}

func TestStandaloneConformsToItsDemoUsers(t *testing.T) {
	t.Parallel() // most checks wait
	c, err := standalone.Start(t.Context(), standalone.LocalOptions())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	var accounts []conform.Account
	for _, u := range standalone.Demo {
		accounts = append(accounts, conform.Account{Email: u.Email, Password: u.Password})
	}
	failed := 0
	_, err = conform.Run(t.Context(), conform.Target{Gate: c.GateURL(), Accounts: accounts, Transport: client.TransportWS}, conform.Options{
		Run: regexp.MustCompile("^(http-login|login-token|kick-same-user|text-delivered|friend-apply-refused|stock-storm-at-login|text-refused|status-place)$"),
		Report: func(r conform.Result) {
			t.Log(r.Name, r.OK, r.Skipped, r.Err)
			if !r.OK {
				failed++
			}
			require.Equal(t, r.Name == "text-refused" || r.Name == "status-place", r.Skipped != "", r.Name)
		},
	})
	require.NoError(t, err)
	require.Zero(t, failed)
}

func TestACheckThatCannotBeginSaysSo(t *testing.T) {
	_, err := conform.Run(t.Context(), conform.Target{Gate: "http://127.0.0.1:1"}, conform.Options{})
	require.ErrorIs(t, err, conform.ErrSetUp)
	_, err = conform.Run(t.Context(), conform.Target{
		Gate: "http://127.0.0.1:1", Accounts: []conform.Account{{Email: "a@b.c", Password: "secret"}, {Email: "b@b.c", Password: "secret"}},
	}, conform.Options{})
	require.ErrorIs(t, err, conform.ErrSetUp)
}

// All checks over wss; TestStandaloneConforms runs them over TCP.
func TestRealNodesConformByWebSocketUnderTLS(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	t.Parallel()
	cert, key, trust, _ := certstest.Make(t)
	c := launchtest.Start(t, launch.Options{Chat: 3, Status: 1, Gate: 1, OnRedis: func(ctx context.Context, addr string) error {
		rdb := redis.NewClient(&redis.Options{Addr: addr, Protocol: 2, DisableIdentity: true})
		defer rdb.Close()
		return presence.SeedGeneration(ctx, rdb)
	}, Configure: func(n *launch.Node, _ int, f *launch.INI) error {
		switch n.Role() {
		case launch.Chat:
			f.Set("SelfServer", "WSSPort", "0")
			f.Set("TLS", "Cert", cert)
			f.Set("TLS", "Key", key)
		case launch.Gate:
			f.Set("StatusServer", "Timeout", "10s") // the machine is busy with other tests
		}
		return nil
	}})
	code, err := conform.CodesFile(c.Gate[0].LogPath())
	require.NoError(t, err)
	check(t, conform.Target{
		Gate: c.GateURL(), Status: []string{c.StatusAddr(0)}, Secret: c.Secret(), Code: code, Transport: client.TransportWSS, TLS: trust,
	}, nil)
}

// A single node passes all checks except those between nodes. Run are the checks that depend on nodes, and those of long and
// hostile streams, by TLS.
func TestASingleNodeConformsByTLS(t *testing.T) {
	t.Parallel()
	codes := new(conform.Codes)
	cert, key, trust, _ := certstest.Make(t)
	o := standalone.LocalOptions()
	o.Nodes, o.Codes, o.Cert, o.Key = 1, codes, cert, key
	c, err := standalone.Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	target := conform.Target{
		Gate: "https://" + c.GateTLSAddr(), Status: []string{c.StatusAddr()}, Code: codes.Code, Transport: client.TransportTLS, TLS: trust,
	}
	check(t, target, regexp.MustCompile("^(kick|login|text|history-long|hostile|stock|native|status)-"),
		"status-authenticated", "kick-across-nodes", "text-across-nodes")
}
