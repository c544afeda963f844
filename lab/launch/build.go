package launch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Build compiles the named main packages of this module, such as "chatnode", into dir. With race the binaries carry
// the race detector, which needs a C compiler and makes them two to ten times slower. The build cache makes a second
// Build cost little more than the linking.
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
	// No VCS stamp: it fails where the repository belongs to another user, and nobody asks these binaries for it.
	args := []string{"build", "-buildvcs=false", "-o", dir + string(filepath.Separator)}
	if race {
		args = append(args, "-race")
	}
	if tags != "" {
		args = append(args, "-tags", tags)
	}
	for _, name := range names {
		args = append(args, "./"+name)
	}
	_, err = goTool(ctx, root, args...)
	return err
}

// moduleRoot finds the directory of go.mod from wherever the test or the tool runs.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := goTool(ctx, "", "env", "GOMOD")
	if err != nil {
		return "", err
	}
	if out == "" || out == os.DevNull {
		return "", errors.New("launch: not inside the module: run from its directory, or give the binaries by Options.Bin")
	}
	return filepath.Dir(out), nil
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
