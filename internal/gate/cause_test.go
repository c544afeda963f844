package gate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/rpc"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/statusservice"
	"parley/kitex_gen/message/varifyservice"
)

// quotingVarify answers with an error or with a code.
type quotingVarify struct{ code int32 }

func (v *quotingVarify) GetVarifyCode(_ context.Context, req *message.GetVarifyReq) (*message.GetVarifyRsp, error) {
	if v.code == 0 {
		return nil, errors.New("550 no such mailbox " + req.Email)
	}
	return &message.GetVarifyRsp{Error: v.code}, nil
}

// emptyStatus reports success without placing users.
type emptyStatus struct{ fakeStatus }

func (*emptyStatus) GetChatServer(context.Context, *message.GetChatServerReq) (*message.GetChatServerRsp, error) {
	return &message.GetChatServerRsp{}, nil
}

// C9: the log tells the operator which server failed, and why.
func TestLogNamesTheServerThatFailedAndTheCause(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	webAddr := web.Listener.Addr().String()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, nobody.Close())
	empty := serveKitex(t, func(s *rpc.Server) error { return statusservice.RegisterService(s, &emptyStatus{}) })
	failing := serveKitex(t, func(s *rpc.Server) error { return varifyservice.RegisterService(s, &quotingVarify{}) })
	refusing := serveKitex(t, func(s *rpc.Server) error { return varifyservice.RegisterService(s, &quotingVarify{code: 3}) })
	secured := serveKitexWith(t, rpc.NewAuth(strings.Repeat("s", 32)), func(s *rpc.Server) error {
		return statusservice.RegisterService(s, &fakeStatus{})
	})
	status := func(addrs ...string) func(*Config) { return func(c *Config) { c.Status.Addrs = addrs } }
	varify := func(addr string) func(*Config) {
		return func(c *Config) {
			host, port, _ := strings.Cut(addr, ":")
			c.Varify.Host = host
			_, err := fmt.Sscan(port, &c.Varify.Port)
			require.NoError(t, err)
		}
	}
	for _, tc := range []struct {
		name, path string
		change     func(*Config)
		code       string
		want       []string
	}{
		{
			"no status server and a web server", "/user_login", status(nobody.Addr().String(), webAddr), "1002",
			[]string{"status server " + nobody.Addr().String() + ": ", "dial tcp", "; status server " + webAddr + ": ", "invalid payload"},
		},
		{"a status server without a node", "/user_login", status(empty), "1002", []string{"status server " + empty + " answered without"}},
		{"another secret", "/user_login", status(secured), "1002", []string{"status server " + secured + ": refuses this node's signature"}},
		{"no verification server", "/get_varifycode", varify(nobody.Addr().String()), "1002", []string{"verification server " + nobody.Addr().String() + ": ", "connection refused"}},
		{"a web server for a verification server", "/get_varifycode", varify(webAddr), "1002", []string{"verification server " + webAddr + ": "}},
		{"a verification server that fails", "/get_varifycode", varify(failing), "1002", []string{"verification server " + failing + ": gRPC status 13 (Internal)"}},
		{"a verification server that refuses", "/get_varifycode", varify(refusing), "3", []string{"verification server " + refusing + " answered 3"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, tc.change)
			f.rawUser("alice", "alice@example.com", "abcdef")
			require.Equal(t, `{"error":`+tc.code+`}`, f.post(tc.path, `{"email":"alice@example.com","passwd":"abcdef"}`))
			var line string
			for l := range strings.Lines(f.logs.String()) {
				if strings.Contains(l, "request refused") {
					line = l
				}
			}
			require.Contains(t, line, `"level":"WARN"`)
			require.Contains(t, line, `"code":`+tc.code)
			for _, part := range tc.want {
				require.Contains(t, line, part)
			}
			require.NotContains(t, line, "alice")
		})
	}
}
