package deps

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "parley"

var root = filepath.Join("..", "..")

// pkg is what `go list` tells about a package.
type pkg struct {
	ImportPath   string
	Dir          string
	Name         string
	Imports      []string
	TestImports  []string
	XTestImports []string
	TestGoFiles  []string
	XTestGoFiles []string
	GoFiles      []string
	// IgnoredGoFiles are left out by their build tags.
	IgnoredGoFiles []string
}

// list reads the module once: its own packages and everything they import, by import path.
var list = sync.OnceValues(func() (map[string]*pkg, error) {
	// go test remembers a result until a file or directory changes that the test itself has opened. What go list opens
	// does not count, so a new import would go unseen: open every directory here.
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && path != root && (d.Name()[0] == '.' || slices.Contains([]string{"bin", "data"}, d.Name())) {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "list", "-buildvcs=false", "-deps",
		"-json=ImportPath,Dir,Name,Imports,TestImports,XTestImports,TestGoFiles,XTestGoFiles,GoFiles,IgnoredGoFiles", "./...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, stderr.Bytes())
	}
	pkgs := map[string]*pkg{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		p := &pkg{}
		if err := dec.Decode(p); errors.Is(err, io.EOF) {
			return pkgs, nil
		} else if err != nil {
			return nil, err
		}
		pkgs[p.ImportPath] = p
	}
})

// ours returns the packages of the module, by their path in it.
func ours(t *testing.T) map[string]*pkg {
	t.Helper()
	all, err := list()
	require.NoError(t, err)
	mine := map[string]*pkg{}
	for path, p := range all {
		if rel, ok := strings.CutPrefix(path, module+"/"); ok {
			mine[rel] = p
		}
	}
	require.NotEmpty(t, mine)
	return mine
}

// matches reports whether path is what the pattern names.
func matches(pattern, path string) bool {
	if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == dir || strings.HasPrefix(path, dir+"/")
	}
	return pattern == path
}

func matchesAny(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, path) })
}

// ruleOf returns the rule of a package, nil if it has none. An exact path wins over a longer pattern of a directory.
func ruleOf(path string) *rule {
	var best *rule
	for i := range rules {
		r := &rules[i]
		if matches(r.pkg, path) && (best == nil || r.pkg == path || best.pkg != path && len(r.pkg) > len(best.pkg)) {
			best = r
		}
	}
	return best
}

// wrongEdges returns a message for each import of ours that a package's rule does not allow.
func wrongEdges(path string, imports []string) (wrong []string) {
	r := ruleOf(path)
	if r == nil {
		return []string{fmt.Sprintf("%s has no rule: add a line to internal/deps/rules_test.go that says what it may import", path)}
	}
	for _, imp := range imports {
		rel, ok := strings.CutPrefix(imp, module+"/")
		if ok && !matchesAny(r.may, rel) {
			wrong = append(wrong, fmt.Sprintf("%s must not import %s: %s (it may import %s)",
				path, rel, r.why, orNothing(strings.Join(r.may, ", "))))
		}
	}
	return wrong
}

func orNothing(s string) string {
	if s == "" {
		return "nothing of ours"
	}
	return s
}

func TestImportsPointDown(t *testing.T) {
	for path, p := range ours(t) {
		for _, msg := range wrongEdges(path, p.Imports) {
			t.Error(msg)
		}
	}
}

// TestNodesNeverMeetInTests lets tests import more than their packages, but no other node: what one node's test needs
// of another is a fake behind the IDL, or belongs in test/e2e.
func TestNodesNeverMeetInTests(t *testing.T) {
	nodes := []string{"internal/chat", "internal/gate", "internal/status"}
	packages := ours(t)
	for _, node := range nodes {
		p := packages[node]
		if p == nil {
			continue
		}
		for _, imp := range slices.Concat(p.TestImports, p.XTestImports) {
			rel := strings.TrimPrefix(imp, module+"/")
			if rel != node && (slices.Contains(nodes, rel) || rel == "internal/standalone") {
				t.Errorf("the test of %s must not import %s: nodes meet in idl/ and in test/e2e", node, rel)
			}
		}
	}
}

func TestOutsidePackagesAreKnownInOnePlace(t *testing.T) {
	for path, p := range ours(t) {
		// A package that gives tests something is a test's, though its files are not named so.
		if strings.HasSuffix(path, "test") || matches("test/...", path) {
			continue
		}
		for _, o := range only {
			if slices.Contains(p.Imports, o.pkg) && !matchesAny(o.may, path) {
				t.Errorf("%s must not import %s: %s (%s may)", path, o.pkg, o.why, orNothing(strings.Join(o.may, ", ")))
			}
		}
	}
}

func TestProgramsLinkNoEmbeddedServers(t *testing.T) {
	all, err := list()
	require.NoError(t, err)
	for _, program := range programs {
		if all[module+"/"+program] == nil {
			continue // TestProgramsExist decides whether that is right
		}
		for path, why := range notLinked {
			if chain := chainTo(all, module+"/"+program, path); chain != nil {
				t.Errorf("%s must not link %s: %s; it comes by %s", program, path, why, strings.Join(chain, " -> "))
			}
		}
	}
}

// TestInternalIsTheProduct looks for packages below internal/ that no node links: tools belong in lab/ or test/.
func TestInternalIsTheProduct(t *testing.T) {
	all, err := list()
	require.NoError(t, err)
	linked := map[string]bool{}
	queue := []string{"parley/chatnode", "parley/statusnode", "parley/gatenode", "parley/standalone"}
	for ; len(queue) > 0; queue = queue[1:] {
		if p := all[queue[0]]; p != nil && !linked[p.ImportPath] {
			linked[p.ImportPath] = true
			queue = append(queue, p.Imports...)
		}
	}
	for path := range ours(t) {
		if matches("internal/...", path) && path != "internal/deps" && !linked[module+"/"+path] {
			t.Errorf("no node links %s: move it to lab/ or test/", path)
		}
	}
}

// chainTo returns the shortest chain of imports from one package to another, nil if there is none.
func chainTo(all map[string]*pkg, from, to string) []string {
	came := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if at == to {
			var chain []string
			for ; at != ""; at = came[at] {
				chain = append(chain, strings.TrimPrefix(at, module+"/"))
			}
			slices.Reverse(chain)
			return chain
		}
		p := all[at]
		if p == nil {
			continue // "C", "unsafe"
		}
		for _, imp := range p.Imports {
			if _, seen := came[imp]; !seen {
				came[imp] = at
				queue = append(queue, imp)
			}
		}
	}
	return nil
}

// TestProgramsExist keeps the other tests from passing because there is nothing to look at. Before there was a README
// that tells people to run the programs, some were still to be written.
func TestProgramsExist(t *testing.T) {
	if _, err := os.Stat(filepath.Join(root, "README.md")); err != nil {
		t.Skip("no README.md yet, so programs may be missing")
	}
	packages := ours(t)
	for _, program := range append([]string{"standalone"}, programs...) {
		p := packages[program]
		if program == "bench" && p == nil && !anyBelow(packages, "bench") {
			continue // not begun
		}
		if p == nil || p.Name != "main" {
			t.Errorf("there is no main package %s: the rules about it would check nothing", program)
		}
	}
}

func anyBelow(packages map[string]*pkg, dir string) bool {
	for path := range packages {
		if matches(dir+"/...", path) {
			return true
		}
	}
	return false
}

// TestServersAreStartedInOnePlace looks for tests that run redis-server or mariadbd by themselves: such a server
// outlives a crashed test, and cannot be found by the people who look for it.
func TestServersAreStartedInOnePlace(t *testing.T) {
	found := map[string]bool{}
	for path, p := range ours(t) {
		if matches("lab/...", path) || path == "internal/deps" {
			continue
		}
		for _, file := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
			text, err := os.ReadFile(filepath.Join(p.Dir, file))
			require.NoError(t, err)
			if !bytes.Contains(text, []byte(`"os/exec"`)) {
				continue
			}
			for _, server := range []string{`"redis-server"`, `"mariadbd"`, `"mysqld"`} {
				if !bytes.Contains(text, []byte("Command("+server)) {
					continue
				}
				found[path] = true
				if ownServers[path] == "" {
					t.Errorf("%s starts %s by itself in %s: use lab/launchtest, which ends it even when "+
						"the test crashes", path, server, file)
				}
			}
		}
	}
	for path, why := range ownServers {
		if !found[path] {
			t.Errorf("%s starts no server of its own any more (%s): take it out of ownServers", path, why)
		}
	}
}

// TestNormalBuildsHaveNoSeededBugs looks for the bugs that chat nodes can be built with, for the load lab to find.
func TestNormalBuildsHaveNoSeededBugs(t *testing.T) {
	const variable = "PARLEY_SEEDED_" + "BUG"
	packages := ours(t)
	require.Contains(t, packages["internal/chat"].IgnoredGoFiles, "bugs_on.go", "the tag keeps it out")
	for path, p := range packages {
		if path == "test/chaos" {
			continue // starts nodes that were built with the tag; it is no node
		}
		for _, file := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, file))
			require.NoError(t, err)
			if bytes.Contains(text, []byte(variable)) {
				t.Errorf("%s/%s is in a normal build and speaks of %s: it belongs into a file with the tag seededbugs", path, file, variable)
			}
		}
	}
}

func TestRulesAreSound(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rules {
		require.False(t, seen[r.pkg], "two rules for %s", r.pkg)
		seen[r.pkg] = true
		require.NotEmpty(t, r.why, r.pkg)
	}
	tests := []struct{ path, want string }{
		{"internal/store", "internal/store"},
		{"internal/store/mysql", "internal/store/..."},
		{"bench", "bench/..."},
		{"bench/seed", "bench/seed"},
		{"bench/seed/deep", "bench/..."},
		{"kitex_gen/message", "kitex_gen/..."},
	}
	for _, tc := range tests {
		require.Equal(t, tc.want, ruleOf(tc.path).pkg, tc.path)
	}
	require.Nil(t, ruleOf("internal/util"))
}

func TestWrongEdgesAreSeen(t *testing.T) {
	tests := []struct {
		path, imp, want string
	}{
		{"internal/wire", "parley/internal/store", "internal/wire must not import internal/store: the client protocol stands"},
		{"internal/chat", "parley/internal/gate", "a node imports no other node"},
		{"internal/store", "parley/internal/store/mysql", "knows neither the protocol nor a driver"},
		{"bench", "parley/internal/store", "only bench/seed opens the stores"},
		{"bench/report", "parley/lab/launch", "only bench/local starts processes"},
		{"internal/util", "fmt", "internal/util has no rule"},
		{"internal/chat", "parley/internal/wire", ""},
		{"client", "net/http", ""},
		{"bench/seed", "parley/internal/store/mysql", ""},
	}
	for _, tc := range tests {
		t.Run(tc.path+" "+tc.imp, func(t *testing.T) {
			got := strings.Join(wrongEdges(tc.path, []string{tc.imp}), "\n")
			if tc.want == "" {
				require.Empty(t, got)
				return
			}
			require.Contains(t, got, tc.want)
		})
	}
}

func TestChainTo(t *testing.T) {
	all := map[string]*pkg{
		"parley/chatnode": {Imports: []string{"fmt", "parley/a", "parley/b"}},
		"parley/a":        {Imports: []string{"parley/b"}},
		"parley/b":        {Imports: []string{"modernc.org/sqlite"}},
	}
	require.Equal(t, []string{"chatnode", "b", "modernc.org/sqlite"}, chainTo(all, "parley/chatnode", "modernc.org/sqlite"))
	require.Nil(t, chainTo(all, "parley/chatnode", "testing"))
}
