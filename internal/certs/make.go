package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// The files that Make writes.
const (
	CAFile    = "ca.pem" // for clients
	CAKeyFile = "ca-key.pem"
	CertFile  = "cert.pem"
	KeyFile   = "key.pem"
)

// certDays is how long a certificate of Make's is good; browsers refuse more than 398 days.
const certDays = 397

// caYears is how long the authority of Make's is good.
const caYears = 10

// Make writes a certificate and its key for hosts, names or addresses, into a directory, signed by an authority that it
// makes there unless there is one. It is for development: anyone who has the authority's key can pass for any server with
// clients that trust it.
func Make(dir string, hosts []string, now time.Time) error {
	if len(hosts) == 0 {
		return errors.New("certs: no host")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	ca, caKey, err := authority(dir, now)
	if err != nil {
		return fmt.Errorf("certs: authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	template := x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: hosts[0], Organization: []string{"Parley development"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, certDays),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, ca, &key.PublicKey, caKey)
	if err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	// The key first: a server that reads between the two finds a pair that does not fit, and looks again.
	if err := errors.Join(writeKey(dir, KeyFile, key), writePEM(dir, CertFile, "CERTIFICATE", der, 0o644)); err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	return nil
}

// authority reads the authority in a directory, or makes one.
func authority(dir string, now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	ca, key, err := readAuthority(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return ca, key, err
	}
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, nil, err
	}
	host, _ := os.Hostname()
	template := x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Parley development " + host, Organization: []string{"Parley development"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(caYears, 0, 0),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	if err := errors.Join(writeKey(dir, CAKeyFile, key), writePEM(dir, CAFile, "CERTIFICATE", der, 0o644)); err != nil {
		return nil, nil, err
	}
	ca, err = x509.ParseCertificate(der)
	return ca, key, err
}

func readAuthority(dir string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	cert, err := readPEM(dir, CAFile)
	if err != nil {
		return nil, nil, err
	}
	raw, err := readPEM(dir, CAKeyFile)
	if err != nil {
		return nil, nil, err
	}
	ca, err := x509.ParseCertificate(cert)
	if err != nil {
		return nil, nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(raw)
	if err != nil {
		return nil, nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, errors.New("its key is not of this program's kind")
	}
	return ca, key, nil
}

func readPEM(dir, name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s is not PEM", name)
	}
	return block.Bytes, nil
}

func writeKey(dir, name string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(dir, name, "PRIVATE KEY", der, 0o600)
}

// writePEM replaces a file in one step.
func writePEM(dir, name, kind string, der []byte, mode os.FileMode) error {
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".new", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}
