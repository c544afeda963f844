package config

import (
	"fmt"
	"io"
	"strings"
)

const redacted = "***"

// writeHelp lists every key.
func writeHelp(w io.Writer, name string, s *schema) {
	fmt.Fprintf(w, `usage: %s [--config FILE] [--section.key VALUE]…

A flag wins over its environment variable, that over the file, that over the default. A key marked secret can also be
given as a file that holds it: --section.keyfile, PARLEY_SECTION_KEY_FILE or KeyFile = PATH.

  --config FILE     read FILE first (PARLEY_CONFIG)
  --check           say whether the configuration is right, and exit
  --print-config    print the configuration that results, secrets as %s, and exit
  --version         print the version, and exit
  --help            print this, and exit
`, name, redacted)
	for _, t := range s.tables() {
		fmt.Fprintf(w, "\n[%s]", t.section)
		if t.note != "" {
			fmt.Fprintf(w, "  %s", t.note)
		}
		fmt.Fprintln(w)
		for _, k := range t.keys {
			fmt.Fprintf(w, "  --%-28s %s\n        %s", k.flag(), k.env(), k.meaning())
			if def := k.shownDefault(); def != "" {
				fmt.Fprintf(w, " (default %s)", def)
			}
			fmt.Fprintln(w)
		}
	}
}

// Doc renders the keys of cfg, a pointer to a Config that holds the defaults, as Markdown: a table a section, headed by
// a heading of the third level.
func Doc(cfg any) string {
	var b strings.Builder
	for i, t := range newSchema(cfg).tables() {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "### [%s]\n\n", t.section)
		if t.note != "" {
			fmt.Fprintf(&b, "%s\n\n", t.note)
		}
		b.WriteString("| key | default | variable | meaning |\n|---|---|---|---|\n")
		for _, k := range t.keys {
			def := k.shownDefault()
			if def == "" {
				def = "–"
			} else {
				def = "`" + def + "`"
			}
			fmt.Fprintf(&b, "| %s | %s | `%s` | %s |\n", k.name, def, k.env(), strings.ReplaceAll(k.meaning(), "|", `\|`))
		}
	}
	return b.String()
}

// table is a section as the reader sees it.
type table struct {
	section, note string
	keys          []*key
}

// tables puts the keys of each section together and adds one table for each group.
func (s *schema) tables() []table {
	var tables []table
	for _, section := range s.sections() {
		t := table{section: section}
		for _, k := range s.keys {
			if k.section == section {
				t.keys = append(t.keys, k)
			}
		}
		tables = append(tables, t)
		for _, g := range s.groups {
			if g.section != section {
				continue
			}
			sub := &schema{}
			sub.addKeys("NAME", defaultOf(g.slice.Type().Elem(), ""))
			note := strings.TrimSpace(fmt.Sprintf("One section for each name in [%s] %s. %s", g.section, g.list, g.help))
			tables = append(tables, table{section: "NAME", note: note, keys: sub.keys})
		}
	}
	return tables
}

// shownDefault is the default, or "" when there is none to show: a secret, or a value that its own bounds refuse.
func (k *key) shownDefault() string {
	if k.secret || k.check() != nil {
		return ""
	}
	return k.def
}

// meaning is the help text with what the tags add.
func (k *key) meaning() string {
	var notes []string
	if kind := kindOf(k.field.Type(), k.name); kind == "list" {
		notes = append(notes, "comma-separated")
	}
	switch {
	case k.min != "" && k.max != "":
		notes = append(notes, k.min+" to "+k.max)
	case k.min != "":
		notes = append(notes, "at least "+k.min)
	case k.max != "":
		notes = append(notes, "at most "+k.max)
	}
	if len(k.oneof) > 0 {
		notes = append(notes, "one of "+strings.Join(k.oneof, ", "))
	}
	if k.secret {
		notes = append(notes, "secret")
	}
	text := k.help
	if len(notes) > 0 {
		text += " (" + strings.Join(notes, "; ") + ")"
	}
	return text
}

// writeConfig prints the configuration as a file that Load reads, each value that is not a default under a comment that
// says where it came from.
func (l *loader) writeConfig(w io.Writer) {
	for i, section := range l.schema.sections() {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "[%s]\n", section)
		for _, k := range l.schema.keys {
			if k.section != section {
				continue
			}
			value := formatValue(k.field, k.name)
			if k.secret && value != "" {
				value = redacted
			}
			if origin, set := l.origin[k]; set {
				fmt.Fprintf(w, "# from %s\n", strings.TrimSuffix(strings.TrimSuffix(origin, k.String()), ": "))
			}
			fmt.Fprintln(w, strings.TrimRight(k.name+" = "+value, " "))
		}
	}
}
