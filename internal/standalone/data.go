package standalone

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"

	"parley/internal/config"
)

// lockName is the file in a data directory that the process which uses it holds locked. The lock goes with the process,
// however that ends; the file stays.
const lockName = "parley.lock"

// openData makes the data directory and keeps other processes out of it: two on one database would take each other for
// dead, again and again. release lets them in.
func openData(dir string) (release func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("standalone: data directory: %w", err)
	}
	lock := flock.New(filepath.Join(dir, lockName), flock.SetPermissions(0o600))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("standalone: lock the data directory: %w", err)
	}
	if !locked {
		return nil, config.Dependency(errors.Join(
			fmt.Errorf("standalone: another process uses the data directory %s: stop it, or name another directory with --data", dir),
			lock.Close()))
	}
	return lock.Unlock, nil
}
