// Package docs_test compares the documentation with the code: the configuration reference, the example files, the
// names of metrics, the links.
package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const root = "../.."

// pages returns the pages of the documentation.
func pages(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			name, err := filepath.Rel(root, file)
			require.NoError(t, err)
			texts[name] = string(text)
		}
	}
	require.Contains(t, texts, "README.md")
	return texts
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	fence   = regexp.MustCompile("(?ms)^```.*?^```$")
	notSlug = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors returns the fragments that GitHub gives to the headings of a page.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		slug := notSlug.ReplaceAllString(strings.ToLower(m[1]), "")
		found[strings.ReplaceAll(slug, " ", "-")] = true
	}
	return found
}

func TestLinksLead(t *testing.T) {
	texts := pages(t)
	for page, text := range texts {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, fragment, _ := strings.Cut(m[1], "#")
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			_, err := os.Stat(filepath.Join(root, target))
			require.NoError(t, err, "%s links to %s", page, m[1])
			if fragment != "" {
				to, err := os.ReadFile(filepath.Join(root, target))
				require.NoError(t, err)
				require.True(t, anchors(string(to))[fragment], "%s links to %s, which has no such heading", page, m[1])
			}
		}
	}
}

// TestMetricsExist looks for every metric that a page names, or that operators are shown, in the package that its name implies.
func TestMetricsExist(t *testing.T) {
	metric := regexp.MustCompile(`\bparley_([a-z]+)_([a-z0-9_]+)\b`)
	sources := map[string]string{}
	source := func(pkg string) string {
		if _, ok := sources[pkg]; !ok {
			files, err := filepath.Glob(filepath.Join(root, "internal", pkg, "*.go"))
			require.NoError(t, err)
			if pkg == "chat" { // packages that are parts of a chat node use its prefix
				for _, part := range []string{"reconcile", "admission"} {
					more, err := filepath.Glob(filepath.Join(root, "internal", part, "*.go"))
					require.NoError(t, err)
					files = append(files, more...)
				}
			}
			for _, file := range files {
				if !strings.HasSuffix(file, "_test.go") {
					text, err := os.ReadFile(file)
					require.NoError(t, err)
					sources[pkg] += string(text)
				}
			}
		}
		return sources[pkg]
	}
	texts := pages(t)
	const figures = "internal/ops/totals.go"
	shown, err := os.ReadFile(filepath.Join(root, figures))
	require.NoError(t, err)
	texts[figures] = string(shown)
	named := 0
	for page, text := range texts {
		for _, m := range metric.FindAllStringSubmatch(text, -1) {
			pkg := m[1]
			if pkg == "build" {
				pkg = "obs"
			}
			code := source(pkg)
			if code == "" {
				continue // not a metric, for example parley_gen
			}
			named++
			require.True(t, strings.Contains(code, `"`+m[0]+`"`) || strings.Contains(code, `"`+m[2]+`"`),
				"%s names %s, which internal/%s does not have", page, m[0], pkg)
		}
	}
	require.Positive(t, named)
}

// TestPathsExist checks every path of the tree that a page names in backquotes.
func TestPathsExist(t *testing.T) {
	path := regexp.MustCompile("`((?:internal|lab|client|idl|deploy|test|docs|kitex_gen|parleyctl|standalone|\\.ci)/[A-Za-z0-9_./-]*)`")
	for page, text := range pages(t) {
		if page == "CHANGELOG.md" {
			continue // describes the past
		}
		for _, m := range path.FindAllStringSubmatch(text, -1) {
			_, err := os.Stat(filepath.Join(root, m[1]))
			require.NoError(t, err, "%s names %s", page, m[1])
		}
	}
}
