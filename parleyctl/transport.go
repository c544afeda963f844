package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"parley/internal/certs"
)

// transportFlags are how chat nodes are reached.
type transportFlags struct {
	Transport string `help:"How to reach chat nodes: ${enum}." enum:"tcp,tls,ws,wss" default:"tcp"`
	CA        string `help:"File of the authorities to trust, in PEM, in place of the system's." placeholder:"FILE" name:"ca"`
}

// config returns what is trusted; nil: the system's authorities.
func (f *transportFlags) config() (*tls.Config, error) {
	if f.CA == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, usageError{fmt.Errorf("--ca: %w", err)}
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, usageError{fmt.Errorf("--ca: %s holds no certificate", f.CA)}
	}
	return &tls.Config{RootCAs: roots}, nil
}

type mkcertsCmd struct {
	Dir  string   `help:"Directory; an authority in it is used again." default:"certs" placeholder:"DIR"`
	Host []string `arg:"" optional:"" help:"Names and addresses of the servers; *.NAME stands for all names below it. Default: localhost, *.localhost, 127.0.0.1 and ::1."`
}

// Help is what --help says below the flags.
func (*mkcertsCmd) Help() string {
	return "It writes " + certs.CertFile + " and " + certs.KeyFile + " for servers, which read them again by themselves, and " + certs.CAFile +
		" for clients (parleyctl --ca, or a browser's or the system's list of authorities). Anyone who has " + certs.CAKeyFile +
		" can pass for any server with those clients: it is for development only."
}

// Run makes the files.
func (c *mkcertsCmd) Run(e *environment) error {
	hosts := c.Host
	if len(hosts) == 0 {
		hosts = []string{"localhost", "*.localhost", "127.0.0.1", "::1"}
	}
	if err := certs.Make(c.Dir, hosts, time.Now()); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "[TLS]\nCert = %s\nKey = %s\n\nclients trust %s\n",
		filepath.Join(c.Dir, certs.CertFile), filepath.Join(c.Dir, certs.KeyFile), filepath.Join(c.Dir, certs.CAFile))
	return nil
}
