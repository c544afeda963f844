package standalone

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/config"
)

func TestDemoUsersTalkAndARestartKeepsThem(t *testing.T) {
	o := LocalOptions()
	o.Data = t.TempDir()
	talk := func(text string) (before int) {
		began := time.Now()
		c, err := Start(t.Context(), o)
		require.NoError(t, err)
		t.Logf("ready after %v", time.Since(began))
		g, err := client.NewGate(c.GateURL())
		require.NoError(t, err)
		var conns [2]*client.Conn
		for i, u := range Demo {
			ticket, err := g.Login(t.Context(), u.Email, u.Password)
			require.NoError(t, err)
			conns[i], err = client.Dial(t.Context(), ticket, client.Options{})
			require.NoError(t, err)
		}
		require.NotEqual(t, conns[0].Node(), conns[1].Node(), "one after the other they are on different nodes")
		threads, err := conns[0].Threads(t.Context())
		require.NoError(t, err)
		require.Len(t, threads, 1)
		page, err := conns[1].History(t.Context(), threads[0].ID, 0, 100)
		require.NoError(t, err)
		_, err = conns[0].SendText(t.Context(), client.InThread(threads[0].ID), text)
		require.NoError(t, err)
		for {
			ev, err := conns[1].Next(t.Context())
			require.NoError(t, err)
			if got, ok := ev.(client.Texts); ok {
				require.Equal(t, text, got.Messages[0].Text)
				break
			}
		}
		for _, conn := range conns {
			require.NoError(t, conn.Close())
		}
		require.NoError(t, c.Close())
		require.NoError(t, c.Err())
		return len(page.Messages)
	}
	require.Zero(t, talk("first life"))
	require.Equal(t, 1, talk("second life"))
}

// A text to a user of another node is pushed from the start on.
func TestTheNodesKnowEachOtherFromTheStart(t *testing.T) {
	o := LocalOptions()
	o.Nodes = 3
	c, err := Start(t.Context(), o)
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	res, err := http.Get("http://" + c.OpsAddr() + "/metrics")
	require.NoError(t, err)
	defer res.Body.Close()
	metrics, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	for _, n := range []string{"chat1", "chat2", "chat3"} {
		require.Contains(t, string(metrics), `parley_peer_links{node="`+n+`"} 2`+"\n")
	}
}

func TestATakenPortFailsAtStart(t *testing.T) {
	first, err := Start(t.Context(), LocalOptions())
	require.NoError(t, err)
	defer func() { require.NoError(t, first.Close()) }()
	beside, err := Start(t.Context(), LocalOptions())
	require.NoError(t, err, "two clusters on free ports live side by side")
	require.NoError(t, beside.Close())

	o := LocalOptions()
	_, port, err := net.SplitHostPort(first.StatusAddr())
	require.NoError(t, err)
	o.StatusPort, err = strconv.Atoi(port)
	require.NoError(t, err)
	_, err = Start(t.Context(), o)
	require.ErrorContains(t, err, "in use")
	require.Equal(t, config.ExitDependency, config.ExitCode(err))
}
