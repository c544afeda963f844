package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// key is one setting: its names, what its tags say, and the field that holds it.
type key struct {
	section, name string
	help          string
	secret        bool
	min, max      string
	oneof         []string
	field         reflect.Value // settable
	def           string        // the default, formatted
}

// group is a list of sections whose names another key lists, such as the peers of [PeerServer] Servers.
type group struct {
	section, list string // the key that lists them
	help          string
	slice         reflect.Value // settable, of struct
}

// schema is all that a Config holds.
type schema struct {
	keys   []*key
	groups []group
}

// newSchema reads the tags of cfg, a pointer to a struct. It panics when a field cannot be a key: that is our mistake.
func newSchema(cfg any) *schema {
	v := reflect.ValueOf(cfg)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("config: %T is not a pointer to a struct", cfg))
	}
	s := &schema{}
	s.addSections(v.Elem())
	return s
}

func (s *schema) addSections(v reflect.Value) {
	eachField(v, func(field reflect.StructField, v reflect.Value) {
		if v.Kind() != reflect.Struct {
			panic(fmt.Sprintf("config: %s is a %s, a section must be a struct", field.Name, v.Type()))
		}
		s.addKeys(nameOf(field), v)
	})
}

func (s *schema) addKeys(section string, v reflect.Value) {
	eachField(v, func(field reflect.StructField, v reflect.Value) {
		name := nameOf(field)
		if list, ok := field.Tag.Lookup("each"); ok {
			s.groups = append(s.groups, group{section: section, list: list, help: field.Tag.Get("help"), slice: v})
			return
		}
		if kindOf(v.Type(), name) == "" {
			panic(fmt.Sprintf("config: [%s] %s has type %s, which cannot be a key", section, name, v.Type()))
		}
		if s.key(section, name) != nil {
			panic(fmt.Sprintf("config: [%s] %s is declared twice", section, name))
		}
		s.keys = append(s.keys, &key{
			section: section, name: name, field: v, def: formatValue(v, name),
			help: field.Tag.Get("help"), secret: field.Tag.Get("secret") == "true",
			min: field.Tag.Get("min"), max: field.Tag.Get("max"), oneof: strings.Fields(field.Tag.Get("oneof")),
		})
	})
}

// eachField calls f for the fields of the struct v, those of embedded structs in their place.
func eachField(v reflect.Value, f func(reflect.StructField, reflect.Value)) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		switch {
		case field.Tag.Get("ini") == "-", !field.IsExported() && !field.Anonymous:
		case field.Anonymous && field.Type.Kind() == reflect.Struct && field.Tag.Get("ini") == "":
			eachField(v.Field(i), f)
		default:
			f(field, v.Field(i))
		}
	}
}

func nameOf(field reflect.StructField) string {
	if name := field.Tag.Get("ini"); name != "" {
		return name
	}
	return field.Name
}

func (s *schema) key(section, name string) *key {
	for _, k := range s.keys {
		if k.section == section && k.name == name {
			return k
		}
	}
	return nil
}

// sections returns the names of all sections in the order of declaration.
func (s *schema) sections() []string {
	var names []string
	for _, k := range s.keys {
		if !slices.Contains(names, k.section) {
			names = append(names, k.section)
		}
	}
	return names
}

// expand adds the sections of the groups, whose names are known only when the lists are.
func (s *schema) expand() []error {
	var faults []error
	for _, g := range s.groups {
		list := s.key(g.section, g.list)
		if list == nil {
			panic(fmt.Sprintf("config: [%s] has no key %s to list its sections", g.section, g.list))
		}
		elem := g.slice.Type().Elem()
		names := list.field.Interface().([]string)
		slice := reflect.MakeSlice(g.slice.Type(), len(names), len(names))
		g.slice.Set(slice)
		known := s.sections()
		for i, name := range names {
			if slices.Contains(known, name) {
				faults = append(faults, Fault{g.section, g.list, fmt.Sprintf("names the section [%s], which has another meaning or is listed twice", name)})
				continue
			}
			known = append(known, name)
			v := g.slice.Index(i)
			v.Set(defaultOf(elem, name))
			s.addKeys(name, v)
		}
	}
	return faults
}

// defaultOf returns the default of a section called name in a group: its Name is the section's.
func defaultOf(t reflect.Type, name string) reflect.Value {
	v := reflect.New(t).Elem()
	if f := v.FieldByName("Name"); f.IsValid() && f.Kind() == reflect.String {
		f.SetString(name)
	}
	return v
}

// envName returns the variable of a key.
func envName(section, name string) string {
	return "PARLEY_" + screaming(section) + "_" + screaming(name)
}

func screaming(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, s)
}

// flagName returns the flag of a key, without the dashes.
func flagName(section, name string) string { return strings.ToLower(section + "." + name) }

func (k *key) env() string  { return envName(k.section, k.name) }
func (k *key) flag() string { return flagName(k.section, k.name) }

// String is how messages name a key.
func (k *key) String() string { return "[" + k.section + "] " + k.name }
