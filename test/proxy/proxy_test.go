package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/standalone"
	"parley/internal/wire"
	"parley/lab/certstest"
)

// TestProxiesLeadToThePageAndToEachNode runs each proxy with its example, of which only addresses, paths and bounds are changed, in front
// of a cluster. Two users log in through it at different nodes, and talk.
func TestProxiesLeadToThePageAndToEachNode(t *testing.T) {
	cert, key, trusting, dir := certstest.Make(t)
	both := filepath.Join(dir, "both.pem")
	require.NoError(t, os.WriteFile(both, []byte(read(t, cert)+read(t, key)), 0o600))

	options := standalone.LocalOptions()
	options.ProxyFrom = []string{"127.0.0.2"} // HAProxy's, below
	var log logs
	options.Log = slog.New(slog.NewJSONHandler(&log, nil))
	c, err := standalone.Start(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	ws := func(i int) string {
		return strings.TrimSuffix(strings.TrimPrefix(c.Chats()[i].Address(wire.WS), "ws://"), "/")
	}

	for _, p := range []struct {
		program, file string
		args          func(file string) []string
	}{
		{"nginx", "nginx.conf", func(file string) []string {
			return []string{"-p", dir, "-c", file, "-e", "stderr", "-g", "daemon off; error_log stderr; pid " + filepath.Join(dir, "nginx.pid") + ";"}
		}},
		{"haproxy", "haproxy.cfg", func(file string) []string { return []string{"-db", "-f", file} }},
	} {
		t.Run(p.program, func(t *testing.T) {
			path, err := exec.LookPath(p.program)
			if err != nil {
				path, err = exec.LookPath("/usr/sbin/" + p.program)
			}
			if err != nil {
				if os.Getenv("CI") == "true" {
					t.Fatal(err)
				}
				t.Skip(err)
			}
			addr := freeAddr(t)
			text := read(t, "../../deploy/proxy/"+p.file)
			for old, now := range map[string]string{
				"listen 443 ": "listen " + addr + " ", "bind :443 ": "bind " + addr + " ",
				"127.0.0.1:8080": c.GateAddr(), "127.0.0.1:8110": ws(0), "127.0.0.1:8111": ws(1),
				"/etc/parley/cert.pem": cert, "/etc/parley/key.pem": key, "/etc/parley/both.pem": both,
				"send-proxy-v2": "send-proxy-v2 source 127.0.0.2", // nginx, which cannot say it, comes from 127.0.0.1
				"/etc/nginx/":   abs(t, "../../deploy/proxy") + "/", "32768": "128", "65536": "512",
			} {
				text = strings.ReplaceAll(text, old, now)
			}
			file := filepath.Join(dir, p.file)
			require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
			run(t, path, p.args(file))

			web := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: trusting, DisableKeepAlives: true}}
			var page string
			require.Eventually(t, func() bool {
				res, err := web.Get("https://" + addr + "/")
				if err != nil {
					return false
				}
				defer res.Body.Close()
				body, err := io.ReadAll(res.Body)
				page = string(body)
				return err == nil && res.StatusCode == http.StatusOK
			}, 30*time.Second, 20*time.Millisecond)
			require.Contains(t, page, "<title>Parley")

			gate, err := client.NewGate("https://" + addr)
			require.NoError(t, err)
			gate.HTTP = web
			var conns [2]*client.Conn
			for i, u := range standalone.Demo[:2] {
				ticket, err := gate.Login(t.Context(), u.Email, u.Password)
				require.NoError(t, err)
				ticket.Addr = fmt.Sprintf("wss://%s/node%d", addr, i+1) // as AdvertiseWS would say
				conns[i], err = client.Dial(t.Context(), ticket, client.Options{TLS: trusting})
				require.NoError(t, err)
				defer conns[i].Close()
				require.Equal(t, fmt.Sprint("chat", i+1), conns[i].Node())
			}
			require.Contains(t, log.String(), `"event":"login_ok","remote":"127.0.0.1"`, "the client's address")
			require.NotContains(t, log.String(), `"remote":"127.0.0.2"`, "HAProxy's")
			said := "through " + p.program
			_, err = conns[0].SendText(t.Context(), client.User(conns[1].Profile().UID), said)
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			for {
				ev, err := conns[1].Next(ctx)
				require.NoError(t, err)
				if texts, ok := ev.(client.Texts); ok && texts.Messages[0].Text == said {
					break
				}
			}
		})
	}
}

// logs are what a cluster has logged.
type logs struct {
	mu   sync.Mutex // guards the following
	text strings.Builder
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// run runs a program until the test ends.
func run(t *testing.T, path string, args []string) {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	cmd.WaitDelay = 5 * time.Second
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
		_ = cmd.Wait()                          // its exit code at a signal is its own business
	})
}

// freeAddr returns a free loopback address.
func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(b)
}

func abs(t *testing.T, file string) string {
	t.Helper()
	path, err := filepath.Abs(file)
	require.NoError(t, err)
	return path
}
