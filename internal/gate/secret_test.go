package gate

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"

	"parley/internal/wire"
)

// Nothing that a user sends or receives may appear in a log, in a metric or in a reply to another user, at any level
// and on any path of a request.
func TestSecretsStayInside(t *testing.T) {
	t.Parallel()
	const (
		email, other = "canary-mail@example.com", "canary-other@example.com"
		passwd, next = "canary-passwd", "canary-next"
		legacy       = "canary-legacy"
	)
	f := newFixture(t, func(c *Config) { c.Cluster.Secret = "canary-secret-of-16" })
	replies := &strings.Builder{}
	call := func(path string, fields map[string]any) {
		body, err := json.Marshal(fields)
		require.NoError(t, err)
		text := f.post(path, string(body))
		replies.WriteString(text + "\n")
	}
	codes := []string{f.code(email)}
	call("/user_register", registration("alice", email, passwd, "canary-code"))
	call("/user_register", registration("alice", email, passwd, codes[0]))
	codes = append(codes, f.code(other))
	call("/user_register", registration("alice", other, passwd, codes[1]))
	f.rawUser("old", "canary-old@example.com", legacy)
	for _, in := range [][2]string{{email, passwd}, {email, "canary-wrong"}, {"canary-nobody@example.com", passwd}, {"canary-old@example.com", legacy}} {
		call("/user_login", map[string]any{"email": in[0], "passwd": in[1]})
	}
	for range 7 {
		call("/user_login", map[string]any{"email": email, "passwd": "canary-guess"})
	}
	codes = append(codes, f.code(email))
	call("/reset_pwd", map[string]any{"user": "bob", "email": email, "passwd": next, "varifycode": codes[2]})
	call("/reset_pwd", map[string]any{"user": "alice", "email": email, "passwd": next, "varifycode": codes[2]})
	f.post("/user_login", `{"email":"canary-mail@example.com","passwd":["canary-passwd"]}`)
	f.post("/user_login", `canary-passwd`)
	codes = append(codes, f.code(other))
	stored := f.stored(email)
	// Dependencies fail with errors of their own.
	f.mr.SetError("WRONGTYPE canary-redis")
	call("/user_register", registration("carol", other, passwd, codes[3]))
	call("/get_varifycode", map[string]any{"email": email})
	call("/user_login", map[string]any{"email": email, "passwd": "canary-third"})
	f.mr.SetError("")
	require.NoError(t, f.store.Close())
	call("/user_login", map[string]any{"email": email, "passwd": next})
	call("/user_register", registration("carol", other, passwd, codes[3]))

	logs := f.logs.String()
	for _, event := range []string{"register", "login_ok", "login_failed", "code_sent", "code_used", "throttled", "password_reset"} {
		require.Contains(t, logs, `"event":"`+event+`"`)
	}
	var metrics strings.Builder
	families, err := f.reg.Gather()
	require.NoError(t, err)
	for _, family := range families {
		_, err := expfmt.MetricFamilyToText(&metrics, family)
		require.NoError(t, err)
	}
	res, err := http.Get("http://" + f.ops.Addr() + "/readyz")
	require.NoError(t, err)
	defer res.Body.Close()
	ready, err := io.ReadAll(res.Body)
	require.NoError(t, err)

	secrets := append([]string{"canary", "token-of-", Transform(passwd), stored}, codes...)
	for where, text := range map[string]string{"logs": logs, "metrics": metrics.String(), "readyz": string(ready)} {
		for _, s := range secrets {
			require.NotContains(t, text, s, where)
		}
	}
	// A reply contains only the address named in its own request.
	said := strings.ReplaceAll(strings.ReplaceAll(replies.String(), `"email":"`+email+`"`, ""), `"email":"canary-old@example.com"`, "")
	for _, s := range append([]string{"canary", Transform(passwd), stored}, codes...) {
		require.NotContains(t, said, s, "replies")
	}
}

func TestConsoleMailStaysOutOfTheLog(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	f := newFixture(t)
	f.varify.mailer = console{w}
	require.Equal(t, wire.CodeOK, f.call("/get_varifycode", map[string]any{"email": "a@example.com"}).Error)
	require.NoError(t, w.Close())
	printed, err := io.ReadAll(r)
	require.NoError(t, err)
	_, code, ok := strings.Cut(string(printed), "code=")
	require.True(t, ok)
	require.NotContains(t, f.logs.String(), code[:6])
}
