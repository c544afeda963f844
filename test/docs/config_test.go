package docs_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/chat"
	"parley/internal/config"
	"parley/internal/gate"
	"parley/internal/status"
)

var update = flag.Bool("update", false, "write docs/CONFIG.md instead of comparing it")

const configReference = "../../docs/CONFIG.md"

// TestConfigReference compares docs/CONFIG.md with what the nodes accept.
func TestConfigReference(t *testing.T) {
	var b strings.Builder
	b.WriteString(configIntro)
	chatCfg, gateCfg, statusCfg := chat.DefaultConfig(), gate.DefaultConfig(), status.DefaultConfig()
	for _, node := range []struct {
		name string
		cfg  any
	}{{"chatnode", &chatCfg}, {"gatenode", &gateCfg}, {"statusnode", &statusCfg}} {
		b.WriteString("\n## " + node.name + "\n\n" + config.Doc(node.cfg))
	}
	if *update {
		require.NoError(t, os.WriteFile(configReference, []byte(b.String()), 0o644))
		return
	}
	got, err := os.ReadFile(configReference)
	require.NoError(t, err)
	require.Equal(t, b.String(), string(got), `docs/CONFIG.md is not what the nodes accept: run "make docs" and commit the result`)
}

const configIntro = `# Configuration

<!-- Written by "make docs" from the Config structs of the nodes; change those. -->

Three programs read a configuration: ` + "`chatnode`, `gatenode` and `statusnode`" + `. Every key has a default and can be set in a
file, by an environment variable or by a flag:

| source | example for ` + "`[Redis] Port`" + ` | overrides |
|---|---|---|
| flag | ` + "`--redis.port 6380`" + ` | all |
| environment | ` + "`PARLEY_REDIS_PORT=6380`" + ` | file and default |
| file, named by ` + "`--config FILE` or `PARLEY_CONFIG`" + ` | ` + "`Port = 6380` under `[Redis]`" + ` | default |

* The file is an INI file: ` + "`[Section]`, `Key = value`" + `, and lines that begin with ` + "`;` or `#`" + `. A value is the rest
  of its line without surrounding blanks; no character in it is special. Sections and keys have llfcchat's names where it has
  them. llfcchat's sections that a program does not use are ignored with a warning, so that its files load unchanged.
* An unknown section, key, variable or flag is refused, with file, line and a suggestion. Variables that Kubernetes sets for
  Services called parley or parley-redis (` + "`PARLEY_REDIS_PORT=tcp://…`" + `) are ignored, and so are those of sections that only other
  programs have. ` + "`--check`" + ` checks everything and exits with 0, or with 78 and a list of all faults. ` + "`--print-config`" + ` prints the
  resulting configuration and the source of each value.
* A secret can be read from a file: ` + "`PasswdFile = PATH`, `PARLEY_REDIS_PASSWD_FILE`, `--redis.passwdfile`" + `. A byte order mark and
  line ends at the end of the file are removed; blanks are kept. Secrets are printed as ` + "`***`" + `.
* Durations are written ` + "`500ms`, `30s`, `10m`; sizes in bytes, or `64KiB`, `1MiB`; lists `a,b,c`; switches `true` or `false`" + `.
* A program reads its configuration only at start: a change needs a restart.

` + "`standalone`" + ` does not read a configuration; it has a few flags, see ` + "`--help`" + `.
`
