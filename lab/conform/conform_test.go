package conform

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
)

var (
	root   = filepath.Join("..", "..")
	row    = regexp.MustCompile(`(?m)^\| ([RD])([0-9]+) \| (.*) \| (.*) \| (.*) \|$`)
	quoted = regexp.MustCompile("`([^`]+)`")
)

func TestNamesOfChecks(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Checks() {
		require.Regexp(t, `^[a-z]+(-[a-z]+)+$`, c.Name)
		require.False(t, seen[c.Name], "%s twice", c.Name)
		require.NotEmpty(t, c.Doc, c.Name)
		require.NotNil(t, c.run, c.Name)
		seen[c.Name] = true
		for _, r := range c.Rules {
			require.Regexp(t, `^[RD][0-9]+$`, r, c.Name)
		}
	}
}

// TestTheTableHolds compares docs/CONFORMANCE.md with the checks and with the tests in the tree.
func TestTheTableHolds(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "docs", "CONFORMANCE.md"))
	require.NoError(t, err)
	checks := map[string][]string{} // by rule
	for _, c := range Checks() {
		for _, r := range c.Rules {
			checks[r] = append(checks[r], c.Name)
		}
	}
	last := map[string]int{}
	for _, m := range row.FindAllStringSubmatch(string(doc), -1) {
		rule := m[1] + m[2]
		n, err := strconv.Atoi(m[2])
		require.NoError(t, err)
		require.Equal(t, last[m[1]]+1, n, "order of the rows at %s", rule)
		last[m[1]] = n
		require.NotEmpty(t, m[3], rule)
		listed := names(m[4])
		slices.Sort(listed)
		slices.Sort(checks[rule])
		require.Equal(t, checks[rule], listed, "checks of %s", rule)
		tests := names(m[5])
		require.NotZero(t, len(listed)+len(tests), "%s is held by nothing", rule)
		for _, name := range tests {
			require.True(t, testExists(t, name), "%s: there is no %s", rule, name)
		}
	}
	require.Equal(t, map[string]int{"R": 24, "D": 62}, last)
}

// TestGroupRightsAreThoseOfTheStore compares the checks, which are based on the protocol only, with the table that
// the nodes use.
func TestGroupRightsAreThoseOfTheStore(t *testing.T) {
	for i, s := range store.Standings() {
		require.Equal(t, s.String(), groupStandings[i])
	}
	require.Len(t, groupRights, len(store.Verbs()))
	for i, v := range store.Verbs() {
		require.Equal(t, v.String(), groupRights[i].verb)
		var may []string
		for _, s := range store.Standings() {
			if store.May(v, s) {
				may = append(may, s.String())
			}
		}
		require.Equal(t, strings.Join(may, " "), groupRights[i].may, v)
	}
}

func names(cell string) (list []string) {
	for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
		list = append(list, m[1])
	}
	return list
}

// testExists reports whether "package.TestName" is in the tree.
func testExists(t *testing.T, name string) bool {
	dir, function, ok := strings.Cut(name, ".")
	require.True(t, ok, name)
	for _, above := range []string{"", "internal", "lab", "test"} {
		files, err := filepath.Glob(filepath.Join(root, above, dir, "*_test.go"))
		require.NoError(t, err)
		for _, f := range files {
			source, err := os.ReadFile(f)
			require.NoError(t, err)
			if strings.Contains(string(source), "\nfunc "+function+"(") {
				return true
			}
		}
	}
	return false
}

func TestCodesAreFoundInWhateverIsPrinted(t *testing.T) {
	c := new(Codes)
	for _, part := range []string{"noise\n[dev mail, not sent] to=a@b.c co", "de=123456 valid=10m0s\nto=a@b.c code=654321", " valid\n"} {
		n, err := c.Write([]byte(part))
		require.NoError(t, err)
		require.Equal(t, len(part), n)
	}
	code, err := c.Code(t.Context(), "a@b.c")
	require.NoError(t, err)
	require.Equal(t, "654321", code)
	_, err = c.Code(t.Context(), "b@b.c")
	require.ErrorIs(t, err, errNoCode)

	path := filepath.Join(t.TempDir(), "out")
	require.NoError(t, os.WriteFile(path, []byte("to=x@y.z code=1\n"), 0o600))
	read, err := CodesFile(path)
	require.NoError(t, err)
	code, err = read(t.Context(), "x@y.z")
	require.NoError(t, err)
	require.Equal(t, "1", code)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString("to=x@y.z code=2\n")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	code, err = read(t.Context(), "x@y.z")
	require.NoError(t, err)
	require.Equal(t, "2", code)
}

func TestTheTransformIsItsOwnInverse(t *testing.T) {
	require.Equal(t, "gde745", transform("abc123"))
	require.Equal(t, "abc123", transform("gde745"))
}

func TestABusyGateIsAskedAgain(t *testing.T) {
	replies := []string{`{"error":2001,"retry_ms":1}`, `{"error":2001,"retry_ms":1}`, `{"error":0,"uid":7}`, `{"error":2001}`}
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, replies[0]) // the test reads it
		replies = replies[1:]
	}))
	defer gate.Close()
	e := &env{t: Target{Gate: gate.URL}, http: gate.Client()}
	_, reply, err := e.post(t.Context(), "/user_login", fields{})
	require.NoError(t, err)
	require.EqualValues(t, 7, reply.num("uid"))
	_, reply, err = e.post(t.Context(), "/user_login", fields{})
	require.NoError(t, err)
	require.EqualValues(t, 2001, reply.num("error"), "it did not say when")
}
