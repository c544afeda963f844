package launchtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/lab/launch"
)

// recorder is a test whose end is played by hand.
type recorder struct {
	testing.TB
	failed   bool
	out      strings.Builder
	cleanups []func()
}

func (r *recorder) Failed() bool                   { return r.failed }
func (r *recorder) Cleanup(f func())               { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Logf(format string, a ...any)   { fmt.Fprintf(&r.out, format+"\n", a...) }
func (r *recorder) Error(a ...any)                 { r.failed = true; fmt.Fprintln(&r.out, a...) }
func (r *recorder) Errorf(format string, a ...any) { r.failed = true; r.Logf(format, a...) }

func (r *recorder) end() {
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
}

func TestDirOfPassedTestIsRemoved(t *testing.T) {
	r := &recorder{TB: t}
	d := dir(r)
	require.DirExists(t, d)
	r.end()
	require.NoDirExists(t, d)
	require.Empty(t, r.out.String())
}

func TestDirOfFailedTestIsKeptAndLogsPrinted(t *testing.T) {
	r := &recorder{TB: t}
	d := dir(r)
	defer os.RemoveAll(d)
	var long strings.Builder
	for i := range 2 * logLines {
		fmt.Fprintf(&long, "line %d\n", i)
	}
	require.NoError(t, os.WriteFile(filepath.Join(d, "chat1.log"), []byte(long.String()), 0o600))
	r.Error("it broke")
	r.end()
	require.DirExists(t, d)
	require.Contains(t, r.out.String(), "end of chat1.log:\nline 40\n")
	require.Contains(t, r.out.String(), "kept in "+d)
	require.NotContains(t, r.out.String(), "line 39\n")
}

func TestServersEndWithTheTest(t *testing.T) {
	Need(t)
	r := &recorder{TB: t}
	redis, maria := Redis(r), MariaDB(r)
	require.True(t, redis.Running())
	require.True(t, maria.Running())
	r.end()
	require.False(t, redis.Running())
	require.False(t, maria.Running())
	require.False(t, r.failed, r.out.String())
}

func TestClusterWithoutNodes(t *testing.T) {
	Need(t)
	r := &recorder{TB: t}
	c := Start(r, launch.Options{NoMariaDB: true})
	require.Len(t, c.Procs(), 1)
	r.end()
	require.NoDirExists(t, c.Dir())
}

func TestFindRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	require.Empty(t, findRace(path))
	require.NoError(t, os.WriteFile(path, []byte("{}\n"), 0o600))
	require.Empty(t, findRace(path))
	require.NoError(t, os.WriteFile(path, []byte("{}\nWARNING: DATA RACE\nWrite at\n"), 0o600))
	require.Equal(t, "WARNING: DATA RACE\nWrite at\n", findRace(path))
}

type noTests struct{ ran bool }

func (n *noTests) Run() int { n.ran = true; return 3 }

func TestMainKeepsBinariesOfTheRun(t *testing.T) {
	m := &noTests{}
	require.Equal(t, 3, Main(m))
	require.True(t, m.ran)
	require.NoDirExists(t, bins.dir)
	bins.dir = ""
}
