// Package certs holds a server's certificate, which it reads again when its files change.
package certs

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// lookEvery is how often Watch looks whether the files have changed.
const lookEvery = 5 * time.Second

// Files are a certificate chain and its key in PEM. All methods are safe for concurrent use.
type Files struct {
	cert, key string
	current   atomic.Pointer[tls.Certificate]

	mu   sync.Mutex // guards the following
	seen [2]stamp   // of the files that are current, or that could not be used
}

// stamp tells two states of a file apart.
type stamp struct {
	size int64
	at   time.Time
}

// Open reads a certificate and its key.
func Open(cert, key string) (*Files, error) {
	f := &Files{cert: cert, key: key}
	if err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Reload reads the files again. After an error the certificate stays what it was.
func (f *Files) Reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = f.stamps() // before reading: a change meanwhile is found by the next look
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	f.current.Store(&pair)
	return nil
}

func (f *Files) stamps() (s [2]stamp) {
	for i, name := range [2]string{f.cert, f.key} {
		if info, err := os.Stat(name); err == nil {
			s[i] = stamp{info.Size(), info.ModTime()}
		}
	}
	return s
}

func (f *Files) changed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stamps() != f.seen
}

// Watch reads the files again when they change and after each value from again, until ctx ends. It tells reloaded how each
// reading ended.
func (f *Files) Watch(ctx context.Context, again <-chan os.Signal, reloaded func(error)) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again:
		case <-tick.C:
			if !f.changed() {
				continue
			}
		}
		reloaded(f.Reload())
	}
}

// Report returns a function for Watch that logs how each reading ended.
func (f *Files) Report(log *slog.Logger) func(error) {
	return func(err error) {
		if err != nil {
			log.Error("certificate not read again; the old one stays", "err", err)
			return
		}
		log.Info("certificate read again", "until", f.Leaf().Format(time.DateOnly))
	}
}

// Leaf returns when the current certificate ends.
func (f *Files) Leaf() (ends time.Time) { return f.current.Load().Leaf.NotAfter }

// Config returns a server's configuration: TLS 1.2 and newer, session tickets, and a choice of protocols for clients that
// offer some.
func (f *Files) Config(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protocols,
		// One record for what is written at once: frames are small, and a client reads them whole.
		DynamicRecordSizingDisabled: true,
		GetCertificate:              func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.current.Load(), nil },
	}
}
