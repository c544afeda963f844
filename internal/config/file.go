package config

import (
	"bytes"
	"fmt"
	"strings"
)

// iniFile is a parsed file that remembers where everything stood.
//
// Parley has its own reader because the format must be llfcchat's (boost's ini_parser: a line is a section, a comment or
// key=value, and a value is taken literally) and because messages must name lines. Libraries for richer dialects
// interpolate %(x)s, strip quotes and cut values at " #", all of which break passwords, and forget the lines.
type iniFile struct {
	path     string
	sections []iniSection // in file order; keys before the first header are refused
}

type iniSection struct {
	name string
	line int
	keys []iniKey
}

type iniKey struct {
	name, value string
	line        int
}

// byteOrderMark is what editors on Windows put at the beginning of a file.
const byteOrderMark = "\xef\xbb\xbf"

// parseINI reads data, which came from path. It returns every fault, and what could be read in spite of them.
func parseINI(path string, data []byte) (*iniFile, []error) {
	file := &iniFile{path: path}
	var faults []error
	fault := func(line int, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s:%d: %s", path, line, fmt.Sprintf(format, args...)))
	}
	data = bytes.TrimPrefix(data, []byte(byteOrderMark))
	firstSection, firstKey := map[string]int{}, map[string]int{}
	line := 0
	for text := range strings.Lines(string(data)) {
		line++
		text = strings.TrimSpace(text)
		switch {
		case text == "" || text[0] == ';' || text[0] == '#':
		case text[0] == '[':
			name, ok := strings.CutSuffix(text[1:], "]")
			name = strings.TrimSpace(name)
			if !ok || name == "" {
				fault(line, "%q is not a section, want [Name]", text)
				continue
			}
			if first, dup := firstSection[name]; dup {
				fault(line, "section [%s] again, it began on line %d", name, first)
			} else {
				firstSection[name] = line
			}
			file.sections = append(file.sections, iniSection{name: name, line: line})
			clear(firstKey)
		default:
			name, value, ok := strings.Cut(text, "=")
			name, value = strings.TrimSpace(name), strings.TrimSpace(value)
			if !ok || name == "" {
				// The line is not shown: it may be half of a secret.
				fault(line, "neither [Section] nor Key = value")
				continue
			}
			if len(file.sections) == 0 {
				fault(line, "key %q stands before the first [Section]", name)
				continue
			}
			section := &file.sections[len(file.sections)-1]
			if first, dup := firstKey[name]; dup {
				fault(line, "[%s] %s again, first on line %d", section.name, name, first)
				continue
			}
			firstKey[name] = line
			section.keys = append(section.keys, iniKey{name, value, line})
		}
	}
	return file, faults
}

// lookup returns the value of a key and the line it stood on.
func (f *iniFile) lookup(section, name string) (iniKey, bool) {
	if f == nil {
		return iniKey{}, false
	}
	for _, s := range f.sections {
		if s.name != section {
			continue
		}
		for _, k := range s.keys {
			if k.name == name {
				return k, true
			}
		}
	}
	return iniKey{}, false
}
