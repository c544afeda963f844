package web

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/lab/launch"
	"parley/lab/launchtest"
)

func TestMain(m *testing.M) { os.Exit(launchtest.Main(m)) }

// scriptTimeout bounds one script. On a quiet machine none takes a minute.
const scriptTimeout = 6 * time.Minute

func TestThePageInChromium(t *testing.T) {
	c := launchtest.Start(t, launch.Options{
		Chat: 2, Status: 1, Gate: 1,
		Configure: func(n *launch.Node, _ int, f *launch.INI) error {
			switch n.Role() {
			case launch.Gate:
				f.Set("GateServer", "Page", "true")
			case launch.Chat:
				f.Set("SelfServer", "WSPort", "0")
			}
			return nil
		},
	})
	t.Run("two people talk through a lost network and a dead node", func(t *testing.T) { script(t, c, nil, "talk.mjs") })
	t.Run("first steps", func(t *testing.T) { script(t, c, nil, "steps.mjs") })
	t.Run("one user at three clients", func(t *testing.T) { devices(t, c) })
	t.Run("the dashboard tells the truth", func(t *testing.T) { dashboard(t, c) })
}

// A helper answers a script's questions that are about more than the cluster.
type helper func(context.Context, question) (string, error)

// script runs a script beside this test and answers what it asks; more may be nil.
func script(t *testing.T, c *launch.Cluster, more helper, name string) {
	t.Helper()
	for _, program := range []string{"chromium", "node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			missing(t, program)
		}
	}
	modules(t)
	ctx, cancel := context.WithTimeout(t.Context(), scriptTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", name)
	cmd.Env = append(os.Environ(), "PARLEY_GATE="+c.GateURL())
	var stderr strings.Builder
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	answer(ctx, t, c, more, in, out)
	require.NoError(t, cmd.Wait(), stderr.String())
}

// modules installs what package-lock.json names, unless it is there.
func modules(t *testing.T) {
	t.Helper()
	installed, err := os.Stat("node_modules/.package-lock.json")
	wanted, statErr := os.Stat("package-lock.json")
	require.NoError(t, statErr)
	if err == nil && !installed.ModTime().Before(wanted.ModTime()) {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "npm", "ci", "--prefer-offline", "--no-audit", "--no-fund").CombinedOutput()
	require.NoError(t, err, string(out))
}

func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed, and CI must not skip it", what)
	}
	t.Skipf("%s is not installed", what)
}

// question is what a script asks.
type question struct {
	What, Node, Email, Text string
}

// answer reads what a script prints until it ends, and does what it asks.
func answer(ctx context.Context, t *testing.T, c *launch.Cluster, more helper, in io.Writer, out io.Reader) {
	t.Helper()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		text, asked := strings.CutPrefix(lines.Text(), "ask ")
		if !asked {
			t.Log(text)
			continue
		}
		var q question
		require.NoError(t, json.Unmarshal([]byte(text), &q))
		reply := struct {
			Answer string `json:"answer"`
			Error  string `json:"error,omitempty"`
		}{}
		var err error
		if reply.Answer, err = do(ctx, c, more, q); err != nil {
			reply.Error = err.Error()
		}
		line, err := json.Marshal(reply)
		require.NoError(t, err)
		_, _ = in.Write(append(line, '\n')) // a script that has ended fails by its status
	}
}

func do(ctx context.Context, c *launch.Cluster, more helper, q question) (string, error) {
	switch q.What {
	case "ops":
		return c.Status[0].OpsAddr(), nil
	case "code":
		return code(ctx, c, q.Email)
	case "kill", "start":
		for _, n := range c.Chat {
			switch {
			case n.Name() != q.Node:
			case q.What == "kill":
				return "", n.Kill()
			default:
				return "", errors.Join(n.Restart(ctx), n.AwaitReady(ctx))
			}
		}
	}
	if more != nil {
		return more(ctx, q)
	}
	return "", fmt.Errorf("the script asks for %+v", q)
}

// code waits for the verification code that the gate prints.
func code(ctx context.Context, c *launch.Cluster, email string) (string, error) {
	line := regexp.MustCompile(`to=` + regexp.QuoteMeta(email) + ` code=(\d{6})`)
	for {
		if found := line.FindAllStringSubmatch(c.Gate[0].Log(), -1); found != nil {
			return found[len(found)-1][1], nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("no code for %s: %w", email, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
