package wire

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHostPort(t *testing.T) {
	for text, want := range map[string]string{
		"ws://chat.example.com/": "chat.example.com:80", "wss://chat.example.com/ws": "chat.example.com:443",
		"wss://chat.example.com:8443/": "chat.example.com:8443", "ws://[::1]/": "[::1]:80", "wss://[::1]:9/": "[::1]:9",
	} {
		u, err := url.Parse(text)
		require.NoError(t, err)
		require.Equal(t, want, HostPort(u), text)
	}
}
