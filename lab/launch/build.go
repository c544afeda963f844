package launch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Build compiles the named main packages of this module, such as "chatnode", into dir. With race the binaries carry
// the race detector, which needs a C compiler and makes them two to ten times slower. Builds of one kind share their
// binaries: the first process to build them links them, later ones get hard links.
func Build(ctx context.Context, dir string, race bool, names ...string) error {
	return BuildTagged(ctx, dir, race, "", names...)
}

// BuildTagged is Build with build tags, separated by commas: for binaries that are no product.
func BuildTagged(ctx context.Context, dir string, race bool, tags string, names ...string) error {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	kind := "plain"
	if race {
		kind = "race"
	}
	if tags != "" {
		kind += "-" + strings.ReplaceAll(tags, ",", "-")
	}
	shared := filepath.Join(root, "bin", "lab", kind) // make clean removes it
	unlock, err := lockDir(ctx, shared)
	if errors.Is(err, errReadOnly) {
		return goBuild(ctx, root, dir, race, tags, names)
	}
	if err != nil {
		return err
	}
	defer unlock()
	if err := goBuild(ctx, root, shared, race, tags, names); err != nil {
		return err
	}
	for _, name := range names {
		if err := linkOrCopy(filepath.Join(shared, path.Base(name)), filepath.Join(dir, path.Base(name))); err != nil {
			return fmt.Errorf("launch: take %s from %s: %w", name, shared, err)
		}
	}
	return nil
}

func goBuild(ctx context.Context, root, dir string, race bool, tags string, names []string) error {
	// No VCS stamp: it fails where the repository belongs to another user, and nobody asks these binaries for it. No
	// tables for debuggers: linking takes half as long without.
	args := []string{"build", "-buildvcs=false", "-ldflags=-w", "-o", dir + string(filepath.Separator)}
	if race {
		args = append(args, "-race", "-gcflags=all=-dwarf=false") // as make test compiles: what it has made is used
	}
	if tags != "" {
		args = append(args, "-tags", tags)
	}
	for _, name := range names {
		args = append(args, "./"+name)
	}
	_, err := goTool(ctx, root, args...)
	return err
}

// lockPoll is how often lockDir looks whether another process has finished its build.
const lockPoll = 50 * time.Millisecond

// errReadOnly is returned by lockDir in a tree that this process may not write to.
var errReadOnly = errors.New("read-only")

// lockDir makes dir and keeps other processes and goroutines that call it out until unlock, or the end of this process.
func lockDir(ctx context.Context, dir string) (unlock func(), err error) {
	err = os.MkdirAll(dir, 0o755)
	var f *os.File
	if err == nil {
		f, err = os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		err = errors.Join(err, errReadOnly)
	}
	if err != nil {
		return nil, fmt.Errorf("launch: lock %s: %w", dir, err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil // which gives up the lock
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, fmt.Errorf("launch: lock %s: %w", dir, errors.Join(err, f.Close()))
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("launch: wait for the lock of %s: %w", dir, errors.Join(ctx.Err(), f.Close()))
		case <-time.After(lockPoll):
		}
	}
}

// linkOrCopy makes to the same file as from, or a copy where they are on different file systems. The go command replaces a
// binary that is out of date, it does not write into it: what has been linked stays as it is.
func linkOrCopy(from, to string) error {
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

var errNoModule = errors.New("launch: not inside the module: run from its directory, or give the binaries by Options.Bin")

// moduleRoot finds the directory of go.mod from wherever the test or the tool runs.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := goTool(ctx, "", "env", "GOMOD")
	if err != nil {
		return "", err
	}
	if out == "" || out == os.DevNull {
		return "", errNoModule
	}
	root := filepath.Dir(out)
	if _, err := os.Stat(filepath.Join(root, "lab", "launch")); err != nil {
		return "", errNoModule // of somebody else
	}
	return root, nil
}

func goTool(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("launch: go %s: %w\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return strings.TrimSpace(stdout.String()), nil
}
