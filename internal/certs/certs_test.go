package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// shown returns the certificate that a server with the configuration shows to a client that trusts the authority of dir.
func shown(t *testing.T, config *tls.Config, dir, name string) (*x509.Certificate, error) {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join(dir, CAFile))
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(pem))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		there, err := ln.Accept()
		if err == nil {
			_ = tls.Server(there, config).Handshake()
			there.Close()
		}
	}()
	here, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	defer here.Close()
	require.NoError(t, here.SetDeadline(time.Now().Add(time.Minute)))
	c := tls.Client(here, &tls.Config{RootCAs: roots, ServerName: name})
	err = c.Handshake()
	here.Close()
	<-served
	if err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0], nil
}

func TestAServerShowsWhatItsFilesSay(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, Make(dir, []string{"localhost", "*.parley.test", "127.0.0.1"}, time.Now()))
	f, err := Open(filepath.Join(dir, CertFile), filepath.Join(dir, KeyFile))
	require.NoError(t, err)
	config := f.Config()
	for _, name := range []string{"localhost", "chat1.parley.test", "127.0.0.1"} {
		_, err := shown(t, config, dir, name)
		require.NoError(t, err, name)
	}
	_, err = shown(t, config, dir, "example.org")
	require.Error(t, err)

	// Another certificate of the same authority.
	first, err := shown(t, config, dir, "localhost")
	require.NoError(t, err)
	require.NoError(t, Make(dir, []string{"localhost"}, time.Now()))
	require.True(t, f.changed())
	require.NoError(t, f.Reload())
	require.False(t, f.changed())
	second, err := shown(t, config, dir, "localhost")
	require.NoError(t, err)
	require.NotEqual(t, first.SerialNumber, second.SerialNumber)

	// Files that do not fit change nothing.
	require.NoError(t, os.WriteFile(filepath.Join(dir, CertFile), []byte("half"), 0o600))
	require.Error(t, f.Reload())
	third, err := shown(t, config, dir, "localhost")
	require.NoError(t, err)
	require.Equal(t, second.SerialNumber, third.SerialNumber)

	info, err := os.Stat(filepath.Join(dir, KeyFile))
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())
}

func TestASignalHasTheFilesReadAgain(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, Make(dir, []string{"localhost"}, time.Now()))
	f, err := Open(filepath.Join(dir, CertFile), filepath.Join(dir, KeyFile))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	again, told, done := make(chan os.Signal), make(chan error), make(chan struct{})
	go func() { defer close(done); f.Watch(ctx, again, func(err error) { told <- err }) }()
	again <- os.Interrupt
	require.NoError(t, <-told)
	stop()
	<-done
}
