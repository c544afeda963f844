package launch

import "strings"

// INI is a configuration file in the making: sections and keys in the order in which they were first set. The zero
// value is empty and ready. It is not safe for concurrent use.
type INI struct {
	sections []iniSection
}

type iniSection struct {
	name string
	keys []iniKey
}

type iniKey struct{ name, value string }

// Set sets a key, and makes its section when there is none. A newline in a value would begin another key: it becomes
// a space.
func (f *INI) Set(section, key, value string) {
	value = strings.ReplaceAll(value, "\n", " ")
	s := f.section(section)
	if s == nil {
		f.sections = append(f.sections, iniSection{name: section})
		s = &f.sections[len(f.sections)-1]
	}
	for i := range s.keys {
		if s.keys[i].name == key {
			s.keys[i].value = value
			return
		}
	}
	s.keys = append(s.keys, iniKey{key, value})
}

// Get returns the value of a key, empty when it is not set.
func (f *INI) Get(section, key string) string {
	if s := f.section(section); s != nil {
		for _, k := range s.keys {
			if k.name == key {
				return k.value
			}
		}
	}
	return ""
}

// Drop removes a key, or the whole section when key is empty.
func (f *INI) Drop(section, key string) {
	for i := range f.sections {
		s := &f.sections[i]
		if s.name != section {
			continue
		}
		if key == "" {
			f.sections = append(f.sections[:i], f.sections[i+1:]...)
			return
		}
		for j := range s.keys {
			if s.keys[j].name == key {
				s.keys = append(s.keys[:j], s.keys[j+1:]...)
				return
			}
		}
	}
}

// String is the file's text.
func (f *INI) String() string {
	var b strings.Builder
	for i, s := range f.sections {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString("[" + s.name + "]\n")
		for _, k := range s.keys {
			b.WriteString(k.name + " = " + k.value + "\n")
		}
	}
	return b.String()
}

func (f *INI) section(name string) *iniSection {
	for i := range f.sections {
		if f.sections[i].name == name {
			return &f.sections[i]
		}
	}
	return nil
}
