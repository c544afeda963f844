package docs

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheGuideToNewMessagesWorks follows docs/EXTENDING.md: it adds the blocks of code to copies of the files that
// the page names, generates the RPC code again, and runs the page's tests on the result. The tree itself is not
// changed: the go command reads the copies instead of the files (-overlay).
//
// A block is applied if an HTML comment precedes it:
//
//	<!-- guide: new FILE -->             the block is a new file
//	<!-- guide: FILE after "TEXT" -->    the block is inserted after the line that contains TEXT
//	<!-- guide: FILE instead -->         the first line of the block is replaced by the others
func TestTheGuideToNewMessagesWorks(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the tree with the guide's files in it")
	}
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	page, err := os.ReadFile(filepath.Join(root, "docs/EXTENDING.md"))
	require.NoError(t, err)

	changed := map[string]string{} // by path below root
	read := func(path string) string {
		if text, ok := changed[path]; ok {
			return text
		}
		text, err := os.ReadFile(filepath.Join(root, path))
		require.NoError(t, err)
		return string(text)
	}
	steps := regexp.MustCompile("(?m)^ *<!-- guide: (.+) -->\n\n? *```[a-z]*\n((?s:.*?)) *```$").FindAllStringSubmatch(string(page), -1)
	require.Equal(t, strings.Count(string(page), "<!-- guide: "), len(steps), "a comment without a block")
	require.NotEmpty(t, steps)
	for _, step := range steps {
		where, block := step[1], step[2]
		path, how, _ := strings.Cut(where, " ")
		switch {
		case path == "new":
			path = how
			require.NoFileExists(t, filepath.Join(root, path))
			changed[path] = block
		case how == "instead":
			old, text, _ := strings.Cut(block, "\n")
			require.Equal(t, 1, strings.Count(read(path), old+"\n"), "%s: %s", path, old)
			changed[path] = strings.Replace(read(path), old+"\n", text, 1)
		default:
			text := strings.Trim(strings.TrimPrefix(how, "after "), `"`)
			before, rest, found := strings.Cut(read(path), text)
			require.True(t, found, "%s: no line has %s", path, text)
			require.NotContains(t, rest, text, path)
			line, rest, _ := strings.Cut(rest, "\n")
			changed[path] = before + text + line + "\n" + block + rest
		}
	}

	dir := t.TempDir()
	overlay := map[string]string{}
	write := func(path, text string) {
		copied := filepath.Join(dir, "tree", path)
		require.NoError(t, os.MkdirAll(filepath.Dir(copied), 0o755))
		require.NoError(t, os.WriteFile(copied, []byte(text), 0o644))
		overlay[filepath.Join(root, path)] = copied
	}
	for path, text := range changed {
		write(path, text)
	}
	generate(t, root, dir, changed["idl/message.proto"], write)
	replace, err := json.Marshal(map[string]any{"Replace": overlay})
	require.NoError(t, err)
	overlayFile := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(overlayFile, replace, 0o644))

	commands := regexp.MustCompile(`(?m)^go (test .+?)(?: +#.*)?$`).FindAllStringSubmatch(string(page), -1)
	require.NotEmpty(t, commands)
	for _, c := range commands {
		args := strings.Fields(c[1])
		args = append([]string{args[0], "-overlay", overlayFile}, args[1:]...)
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = root
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "go %s\n%s", strings.Join(args, " "), out)
		require.NotContains(t, string(out), "[no tests to run]", c[1])
	}
}

// generate runs `make gen` on a copy and passes the generated files to write.
func generate(t *testing.T, root, dir, idl string, write func(path, text string)) {
	work := filepath.Join(dir, "gen")
	for path, text := range map[string]string{"idl/message.proto": idl, "go.mod": "", "go.sum": "", ".ci/gen": ""} {
		if text == "" {
			data, err := os.ReadFile(filepath.Join(root, path))
			require.NoError(t, err)
			text = string(data)
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(work, path)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(work, path), []byte(text), 0o755))
	}
	cmd := exec.CommandContext(t.Context(), "./.ci/gen", ".")
	cmd.Dir = work
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	generated := filepath.Join(work, "kitex_gen")
	require.NoError(t, filepath.WalkDir(generated, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(work, path)
		if err != nil {
			return err
		}
		write(name, string(text))
		return nil
	}))
}
