package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// A block of commands, with the comment by which CI runs it.
var commands = regexp.MustCompile("(?ms)^(?:<!-- ci[^\n]*\n)*```sh\n.*?^```$")

func TestTheChineseReadmeHasTheSameCommands(t *testing.T) {
	blocks := func(name string) []string {
		text, err := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, err)
		return commands.FindAllString(string(text), -1)
	}
	english := blocks("README.md")
	require.Greater(t, len(english), 8)
	require.Equal(t, english, blocks("README.zh-CN.md"))
}
