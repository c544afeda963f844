package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Fault is a value that makes no sense. A section's Validate leaves Section empty and ValidateSections fills it in; Load
// adds where the value came from.
type Fault struct {
	Section, Key string
	Problem      string // follows "[Section] Key ": "must not be empty"
}

func (f Fault) Error() string {
	if f.Key == "" {
		return fmt.Sprintf("[%s] %s", f.Section, f.Problem)
	}
	return fmt.Sprintf("[%s] %s %s", f.Section, f.Key, f.Problem)
}

// Faultf returns a Fault of a key of the section whose Validate is running, or of the key "Section.Key".
func Faultf(key, format string, args ...any) error {
	section, name, ok := strings.Cut(key, ".")
	if !ok {
		section, name = "", key
	}
	return Fault{Section: section, Key: name, Problem: fmt.Sprintf(format, args...)}
}

type validator interface{ Validate() error }

// ValidateSections checks the tags (min, max, oneof) of every key of cfg, a struct or a pointer to one, and calls
// Validate of every section that has one. It returns all faults joined. A node's own Validate calls it and joins what
// concerns several sections.
func ValidateSections(cfg any) error {
	v := reflect.Indirect(reflect.ValueOf(cfg))
	copied := reflect.New(v.Type()) // settable, and no Validate can change the caller's
	copied.Elem().Set(v)
	s := newSchema(copied.Interface())
	var faults []error
	for _, k := range s.keys {
		faults = append(faults, k.check()...)
	}
	eachField(copied.Elem(), func(field reflect.StructField, v reflect.Value) {
		faults = append(faults, validate(nameOf(field), v)...)
	})
	for _, g := range s.groups {
		names, _ := s.key(g.section, g.list).field.Interface().([]string)
		for i := range g.slice.Len() {
			elem := g.slice.Index(i)
			name := fmt.Sprintf("%s %d", g.list, i+1) // a list that a program made, without its names
			if i < len(names) {
				name = names[i]
			}
			sub := &schema{}
			sub.addKeys(name, elem)
			for _, k := range sub.keys {
				faults = append(faults, k.check()...)
			}
			faults = append(faults, validate(name, elem)...)
		}
	}
	return errors.Join(faults...)
}

// validate runs a section's own checks.
func validate(section string, v reflect.Value) []error {
	val, ok := v.Addr().Interface().(validator)
	if !ok {
		return nil
	}
	var faults []error
	for err := range each(val.Validate()) {
		if f, ok := err.(Fault); ok && f.Section == "" {
			f.Section = section
			err = f
		}
		faults = append(faults, err)
	}
	return faults
}

// each yields the errors that errors.Join put together, in depth.
func each(err error) func(yield func(error) bool) {
	return func(yield func(error) bool) { walk(err, yield) }
}

func walk(err error, yield func(error) bool) bool {
	if err == nil {
		return true
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			if !walk(e, yield) {
				return false
			}
		}
		return true
	}
	return yield(err)
}

// check holds the value against the tags.
func (k *key) check() []error {
	fault := func(format string, args ...any) []error {
		return []error{Fault{k.section, k.name, fmt.Sprintf(format, args...)}}
	}
	if k.min != "" && compare(k.field, k.parsed(k.min)) < 0 {
		return fault("is %s, at least %s", formatValue(k.field, k.name), k.min)
	}
	if k.max != "" && compare(k.field, k.parsed(k.max)) > 0 {
		return fault("is %s, at most %s", formatValue(k.field, k.name), k.max)
	}
	if len(k.oneof) > 0 && !slices.Contains(k.oneof, k.field.String()) {
		return fault("is %q, want one of %s", k.field.String(), strings.Join(k.oneof, ", "))
	}
	return nil
}

// parsed returns a tag's text as a value of the key's type.
func (k *key) parsed(text string) reflect.Value {
	v := reflect.New(k.field.Type()).Elem()
	if err := parseValue(v, k.name, text); err != nil {
		panic(fmt.Sprintf("config: tag of %s: %q %v", k, text, err))
	}
	return v
}
