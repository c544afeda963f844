package gate

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// E10: a browser sends a preflight request before it posts JSON from a page of another origin.
func TestABrowserMayPostJSONFromAnAllowedOrigin(t *testing.T) {
	t.Parallel()
	const page, other = "https://chat.example:8443", "https://other.example"
	for _, tc := range []struct {
		name, origin, allowed string
		origins               []string
	}{
		{"by default", page, "*", nil},
		{"a page of the list", page, page, []string{"http://a.example", page}},
		{"a page that is not in the list", other, "", []string{page}},
		{"a page without an origin", "null", "", []string{page}},
		{"no page", "", "", []string{page}},
		{"an empty list", page, "", []string{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, func(c *Config) {
				if tc.origins != nil {
					c.Gate.AllowedOrigins = tc.origins
				}
				require.NoError(t, origins(c.Gate.AllowedOrigins).validate())
			})
			header := "Host: x\r\n"
			if tc.origin != "" {
				header += "Origin: " + tc.origin + "\r\n"
			}
			res, text := f.raw("OPTIONS /user_login HTTP/1.1\r\n"+header+
				"Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n\r\n", 0)
			require.Equal(t, http.StatusNoContent, res.StatusCode)
			require.Empty(t, text)
			require.Equal(t, "OPTIONS, POST", res.Header.Get("Allow"))
			require.Equal(t, tc.allowed, res.Header.Get("Access-Control-Allow-Origin"))
			methods, headers := "", ""
			if tc.allowed != "" {
				methods, headers = "POST", "Content-Type"
			}
			require.Equal(t, methods, res.Header.Get("Access-Control-Allow-Methods"))
			require.Equal(t, headers, res.Header.Get("Access-Control-Allow-Headers"))

			res, text = f.raw("POST /user_login HTTP/1.1\r\n"+header+"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", 0)
			require.Equal(t, http.StatusOK, res.StatusCode)
			require.Equal(t, `{"error":1001}`, text)
			require.Equal(t, tc.allowed, res.Header.Get("Access-Control-Allow-Origin"))
			if tc.origins != nil {
				require.Equal(t, "Origin", res.Header.Get("Vary"), "caches keep the answers apart")
			}
		})
	}
}

func TestOriginsAreChecked(t *testing.T) {
	for _, origin := range []string{"", "chat.example", "https://chat.example/", "https://Chat.example", "https://", "https://u@chat.example/x", "//chat.example", "**"} {
		c := DefaultConfig()
		c.Gate.AllowedOrigins = []string{origin}
		require.ErrorContains(t, c.Validate(), "AllowedOrigins", origin)
	}
}

func TestAnAbsoluteTargetIsRouted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, target := range []string{"http://gate.example/user_login", "http://127.0.0.1:8080/user_login", "https://gate.example/user_login"} {
		res, text := f.raw("POST "+target+" HTTP/1.1\r\nHost: gate.example\r\nContent-Length: 2\r\n\r\n{}", 0)
		require.Equal(t, http.StatusOK, res.StatusCode, target)
		require.Equal(t, `{"error":1001}`, text)
		res, _ = f.raw("OPTIONS "+target+" HTTP/1.1\r\nHost: gate.example\r\n\r\n", 0)
		require.Equal(t, http.StatusNoContent, res.StatusCode, target)
	}
}
