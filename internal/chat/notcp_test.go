package chat

import (
	"testing"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/wire"
)

// A node without Port takes encrypted clients only. Its lease and placements have no address for TCP.
func TestANodeWithoutAPortTakesNoTCPClients(t *testing.T) {
	secure, trust, _ := secured(t)
	f := newFixture(t, 2)
	off := func(c *Config) { c.SelfServer.Port, c.SelfServer.WSPort = "", "" }
	n := f.start("chat1", secure, off)
	require.Empty(t, n.ClientAddr())
	for _, via := range []wire.Transport{wire.TCP, wire.WS} {
		require.Empty(t, n.Address(via))
	}
	placed, err := f.presence.Nodes.Place(t.Context(), []int32{firstUID})
	require.NoError(t, err)
	require.Empty(t, placed[0].ClientAddr)
	require.Equal(t, n.Address(wire.TLS), placed[0].Web.TLS)
	a, b := f.loginVia(n, 1, wire.TLS, client.Options{TLS: trust}), f.loginVia(n, 2, wire.WSS, client.Options{TLS: trust})
	_, err = a.SendText(t.Context(), client.InThread(f.threads[0]), "encrypted")
	require.NoError(t, err)
	for {
		ev, err := b.Next(t.Context())
		require.NoError(t, err)
		if texts, ok := ev.(client.Texts); ok {
			require.Equal(t, "encrypted", texts.Messages[0].Text)
			break
		}
	}

	cfg := LocalConfig("chat1")
	off(&cfg)
	require.ErrorContains(t, cfg.Validate(), "Port")
}
