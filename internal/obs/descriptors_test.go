//go:build unix

package obs

import (
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// B10: when no descriptors are left, /readyz still answers, and says so; it recovers by itself.
func TestReadyzSaysThatNoDescriptorsAreLeft(t *testing.T) {
	o := serveOps(t, Descriptors())
	code, _ := get(t, o, "/readyz")
	require.Equal(t, http.StatusOK, code)
	http.DefaultClient.CloseIdleConnections()

	// The client's sockets exist before descriptors run out.
	addr := o.ln.Addr().(*net.TCPAddr)
	var clients []int
	for range spareDescriptors - 1 {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
		require.NoError(t, err)
		defer syscall.Close(fd)
		clients = append(clients, fd)
	}
	var old syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old))
	low := old
	low.Cur = 512
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
	defer func() { require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old)) }()
	var taken []int
	release := func() {
		for _, fd := range taken {
			_ = syscall.Close(fd)
		}
		taken = nil
	}
	defer release()
	for {
		fd, err := spare()
		if err != nil {
			require.ErrorIs(t, err, syscall.EMFILE)
			break
		}
		taken = append(taken, fd)
	}
	for _, fd := range clients {
		require.NoError(t, syscall.Connect(fd, &syscall.SockaddrInet4{Port: addr.Port, Addr: [4]byte{127, 0, 0, 1}}))
		_, err := syscall.Write(fd, []byte("GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
		require.NoError(t, err)
		var answer strings.Builder
		buf := make([]byte, 4096)
		for {
			n, err := syscall.Read(fd, buf)
			require.NoError(t, err)
			if n == 0 {
				break
			}
			answer.Write(buf[:n])
		}
		require.Contains(t, answer.String(), " 503 ")
		require.Contains(t, answer.String(), "no file descriptors left, the limit is 512")
	}
	release()
	code, body := get(t, o, "/readyz")
	require.Equal(t, http.StatusOK, code, body)
}

// E13
func TestDebugIsForThisMachineOrTheToken(t *testing.T) {
	o, err := ListenOps("127.0.0.1:0", quiet, NewRegistry("x"), nil)
	require.NoError(t, err)
	defer o.Close()
	ask := func(path, from, authorization string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		require.NoError(t, err)
		r.RemoteAddr = from
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		w := &statusWriter{header: http.Header{}, code: http.StatusOK}
		o.server.Handler.ServeHTTP(w, r)
		return w.code
	}
	for _, token := range []string{"", "a token of 16 bytes"} {
		o.SetToken(token)
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap", "/debug/pprof/symbol"} {
			require.Equal(t, http.StatusOK, ask(path, "127.0.0.1:5", ""), path)
			require.Equal(t, http.StatusOK, ask(path, "[::1]:5", ""), path)
			for _, authorization := range []string{"", "Bearer ", "Bearer wrong", "Basic " + token, token} {
				require.Equal(t, http.StatusUnauthorized, ask(path, "10.0.0.1:5", authorization), path)
			}
			want := http.StatusUnauthorized
			if token != "" {
				want = http.StatusOK
			}
			require.Equal(t, want, ask(path, "10.0.0.1:5", "Bearer "+token), path)
		}
		for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
			require.Equal(t, http.StatusOK, ask(path, "10.0.0.1:5", ""), path)
		}
	}
}

type statusWriter struct {
	header http.Header
	code   int
}

func (w *statusWriter) Header() http.Header         { return w.header }
func (w *statusWriter) WriteHeader(code int)        { w.code = code }
func (w *statusWriter) Write(p []byte) (int, error) { return len(p), nil }
