// Package certstest makes certificates for servers of a test.
package certstest

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/certs"
)

// Make writes a certificate for 127.0.0.1 and localhost to a directory of the test. It returns the files that a server shows,
// in dir, and a configuration of a client that trusts it.
func Make(t testing.TB) (cert, key string, trust *tls.Config, dir string) {
	t.Helper()
	dir = t.TempDir()
	require.NoError(t, certs.Make(dir, []string{"127.0.0.1", "localhost"}, time.Now()))
	pem, err := os.ReadFile(filepath.Join(dir, certs.CAFile))
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(pem))
	return filepath.Join(dir, certs.CertFile), filepath.Join(dir, certs.KeyFile), &tls.Config{RootCAs: roots}, dir
}
