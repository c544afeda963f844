// Package certstest makes certificates for servers of a test.
package certstest

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
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
	cert, key, trust, err := In(dir)
	require.NoError(t, err)
	return cert, key, trust, dir
}

// In is Make for a directory that outlives a test.
func In(dir string) (cert, key string, trust *tls.Config, err error) {
	if err := certs.Make(dir, []string{"127.0.0.1", "localhost"}, time.Now()); err != nil {
		return "", "", nil, err
	}
	pem, err := os.ReadFile(filepath.Join(dir, certs.CAFile))
	if err != nil {
		return "", "", nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return "", "", nil, errors.New("certstest: the authority is not PEM")
	}
	return filepath.Join(dir, certs.CertFile), filepath.Join(dir, certs.KeyFile), &tls.Config{RootCAs: roots}, nil
}
