package gate

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheChatPageIsServedWhenItIsSwitchedOn(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Gate.Page = true })
	for path, want := range map[string]int{"/": 200, "/app.js": 200, "/client/parley.js": 200, "/?x=1": 200, "/nothing": 404, "/user_login": 404} {
		res, err := http.Get(f.url + path)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, want, res.StatusCode, path)
		require.Contains(t, res.Header.Get("Content-Security-Policy"), "default-src 'none'")
		require.Empty(t, res.Header.Get("Access-Control-Allow-Origin"), "other pages have no business with it")
	}
	require.JSONEq(t, `{"error":1009}`, f.post("/user_login", `{"email":"nobody@example.com","passwd":"wrong-one","plain":true}`),
		"what is posted goes where it went")
}

func TestAGateServesNoPageUnlessAsked(t *testing.T) {
	f := newFixture(t)
	res, text := f.do(http.MethodGet, "/", "")
	require.Equal(t, 404, res.StatusCode)
	require.True(t, strings.HasPrefix(text, "url not found"))
}
