package config

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// Loaded says where a configuration came from. Its zero value means: defaults alone.
type Loaded struct {
	File     string   // "" when none was given
	Warnings []string // what is odd but not wrong: sections and variables of other roles, and those of Kubernetes
}

// Log writes what an operator should know about the configuration: its file, or that there is none, and the warnings.
func (l Loaded) Log(log *slog.Logger) {
	if l.File == "" {
		log.Info("no configuration file, using defaults; --help lists the keys")
	} else {
		log.Info("configuration read", "file", l.File)
	}
	for _, w := range l.Warnings {
		log.Warn("configuration: " + w)
	}
}

// otherRoles are llfcchat's sections. A file may hold sections of other roles, so that the files of an llfcchat
// installation load unchanged.
var otherRoles = []string{
	"SelfServer", "PeerServer", "StatusServer", "GateServer", "VarifyServer", "Mysql", "Redis", "chatservers",
}

// Load fills cfg, a pointer to a Config that holds the defaults, from the file of --config (or PARLEY_CONFIG), the
// environment and the flags; the later wins, and a variable that is set but empty counts as not set. Then it calls cfg's
// Validate, or ValidateSections when it has none. All faults are returned together, one a line, marked for ExitCode.
// --help, --version, --print-config and --check write to p.Stdout and return ErrDone. Load opens no connection.
func Load[T any](p Process, cfg *T) (Loaded, error) {
	l := &loader{schema: newSchema(cfg), process: p, origin: map[*key]string{}, unread: map[*key]bool{}, used: map[string]bool{}}
	if err := l.parseArgs(); err != nil {
		return Loaded{}, Usage(err)
	}
	switch {
	case l.help:
		writeHelp(p.Stdout, p.Name, l.schema)
		return Loaded{}, ErrDone
	case l.version:
		fmt.Fprintln(p.Stdout, p.Version)
		return Loaded{}, ErrDone
	}
	l.loadEnv()
	if err := l.readFile(); err != nil {
		return Loaded{}, Invalid(err)
	}
	l.fill(l.schema.keys)
	static := len(l.schema.keys)
	for _, err := range l.schema.expand() {
		l.faults = append(l.faults, l.locate(err))
		l.halfKnown = true
	}
	l.fill(l.schema.keys[static:])
	usage := l.unknownFlags()
	l.unknownInFile()
	l.unknownEnv()
	l.validate(cfg)
	switch {
	case len(usage) > 0:
		return Loaded{}, Usage(errors.Join(append(usage, l.faults...)...))
	case len(l.faults) > 0:
		return Loaded{}, Invalid(errors.Join(l.faults...))
	}
	if l.print {
		l.writeConfig(p.Stdout)
	}
	if l.check {
		fmt.Fprintf(p.Stdout, "%s: configuration ok\n", orElse(l.loaded.File, p.Name))
	}
	if l.print || l.check {
		return l.loaded, ErrDone
	}
	return l.loaded, nil
}

type loader struct {
	schema  *schema
	process Process
	loaded  Loaded

	check, print, help, version bool

	flags  map[string]string // lower-case name -> value
	order  []string          // of the flags as given
	env    map[string]string // those that begin with PARLEY_
	file   *iniFile
	used   map[string]bool // flags and variables that some key took
	origin map[*key]string // where a value came from; absent for a default
	unread map[*key]bool   // what was given for the key makes no sense, and it still has its default
	faults []error

	halfKnown bool // a list names a section that it cannot have, so that keys are missing
}

func (l *loader) parseArgs() error {
	l.flags = map[string]string{}
	args := l.process.Args
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		name, dashed := strings.CutPrefix(arg, "-")
		if !dashed || name == "" || name == "-" {
			return fmt.Errorf("unexpected argument %q; see --help", arg)
		}
		name, value, hasValue := strings.Cut(strings.TrimPrefix(name, "-"), "=")
		name = strings.ToLower(name)
		if on := l.command(name); on != nil {
			if hasValue {
				return fmt.Errorf("flag --%s takes no value", name)
			}
			*on = true
			continue
		}
		if !hasValue {
			switch {
			case l.isBool(name):
				value = "true"
			case len(args) == 0:
				return fmt.Errorf("flag --%s needs a value", name)
			default:
				value, args = args[0], args[1:]
			}
		}
		if _, dup := l.flags[name]; dup {
			return fmt.Errorf("flag --%s is given twice", name)
		}
		l.flags[name] = value
		l.order = append(l.order, name)
	}
	return nil
}

// command returns the switch of a flag that is not a key.
func (l *loader) command(name string) *bool {
	switch name {
	case "help", "h":
		return &l.help
	case "version":
		return &l.version
	case "check":
		return &l.check
	case "print-config":
		return &l.print
	}
	return nil
}

func (l *loader) isBool(flag string) bool {
	for _, k := range l.schema.keys {
		if k.flag() == flag {
			return k.field.Kind() == reflect.Bool
		}
	}
	return false
}

func (l *loader) readFile() error {
	path, ok := l.flags["config"]
	l.used["config"], l.used["PARLEY_CONFIG"] = true, true
	if !ok {
		path = l.env["PARLEY_CONFIG"]
	}
	if path == "" {
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	l.loaded.File = path
	// Messages name the file as the operator did, less its folder: the line has to fit a terminal.
	l.file, l.faults = parseINI(filepath.Base(path), data)
	return nil
}

// candidate is one place where a key could have been set.
type candidate struct {
	value, origin string
	file          bool // value names a file that holds the secret
}

// fill sets the keys from the highest place that has them.
func (l *loader) fill(keys []*key) {
	for _, k := range keys {
		for _, level := range [][]candidate{l.fromFlags(k), l.fromEnv(k), l.fromFile(k)} {
			if len(level) == 0 {
				continue
			}
			if len(level) > 1 {
				l.faultf("%s: set both here and by %s; keep one", level[0].origin, level[1].origin)
			}
			l.set(k, level[0])
			break
		}
	}
}

func (l *loader) fromFlags(k *key) (found []candidate) {
	if v, ok := l.flags[k.flag()]; ok {
		found = append(found, candidate{v, "--" + k.flag(), false})
	}
	if v, ok := l.flags[k.flag()+"file"]; ok && k.secret {
		found = append(found, candidate{v, "--" + k.flag() + "file", true})
	}
	l.used[k.flag()] = true
	l.used[k.flag()+"file"] = l.used[k.flag()+"file"] || k.secret
	return found
}

func (l *loader) fromEnv(k *key) (found []candidate) {
	if v, ok := l.env[k.env()]; ok {
		found = append(found, candidate{v, k.env(), false})
	}
	if v, ok := l.env[k.env()+"_FILE"]; ok && k.secret {
		found = append(found, candidate{v, k.env() + "_FILE", true})
	}
	l.used[k.env()] = true
	l.used[k.env()+"_FILE"] = l.used[k.env()+"_FILE"] || k.secret
	return found
}

func (l *loader) fromFile(k *key) (found []candidate) {
	if e, ok := l.file.lookup(k.section, k.name); ok {
		found = append(found, candidate{e.value, l.at(e.line) + k.String(), false})
	}
	if e, ok := l.file.lookup(k.section, k.name+"File"); ok && k.secret {
		found = append(found, candidate{e.value, l.at(e.line) + k.String() + "File", true})
	}
	return found
}

func (l *loader) set(k *key, c candidate) {
	l.origin[k] = c.origin
	if c.file {
		data, err := os.ReadFile(c.value)
		if err != nil {
			l.faultf("%s: %v", c.origin, err)
			l.unread[k] = true
			return
		}
		c.value = strings.TrimRight(strings.TrimPrefix(string(data), byteOrderMark), "\r\n")
	}
	if err := parseValue(k.field, k.name, c.value); err != nil {
		shown := fmt.Sprintf("%q", c.value)
		if k.secret {
			shown = "the value"
		}
		l.faultf("%s: %s %v", c.origin, shown, err)
		l.unread[k] = true
	}
}

func (l *loader) faultf(format string, args ...any) {
	l.faults = append(l.faults, fmt.Errorf(format, args...))
}

// at is the prefix of a message about a line.
func (l *loader) at(line int) string { return fmt.Sprintf("%s:%d: ", l.file.path, line) }

// validate runs the checks of cfg and adds where each faulty value came from. A key whose value could not be read has been
// reported, and its default is nobody's fault.
func (l *loader) validate(cfg any) {
	err := ValidateSections(cfg)
	if v, ok := cfg.(validator); ok {
		err = v.Validate()
	}
	for e := range each(err) {
		if f, ok := errors.AsType[Fault](e); ok {
			k := l.schema.key(f.Section, f.Key)
			if _, set := l.origin[k]; l.unread[k] || l.halfKnown && !set {
				continue
			}
		}
		l.faults = append(l.faults, l.locate(e))
	}
}

// locate prefixes a Fault with the origin of the value it complains about.
func (l *loader) locate(err error) error {
	f, ok := errors.AsType[Fault](err)
	if !ok {
		return err
	}
	k := l.schema.key(f.Section, f.Key)
	if k == nil {
		return err
	}
	origin, set := l.origin[k]
	switch {
	case !set:
		return fmt.Errorf("%w (its default)", err)
	case strings.Contains(origin, k.String()): // it stood in the file: the line alone, the key follows
		return fmt.Errorf("%s%w", origin[:strings.Index(origin, k.String())], err)
	}
	return fmt.Errorf("%s: %w", origin, err)
}

func (l *loader) unknownFlags() []error {
	known := []string{"config", "help", "version", "check", "print-config"}
	for _, k := range l.schema.keys {
		known = append(known, k.flag())
	}
	var faults []error
	for _, name := range l.order {
		if !l.used[name] {
			faults = append(faults, fmt.Errorf("unknown flag --%s%s", name, suggest(name, known, "--", "")))
		}
	}
	return faults
}

func (l *loader) unknownInFile() {
	if l.file == nil {
		return
	}
	sections := l.schema.sections()
	ignored := l.sectionsOfOthers(sections)
	var skipped []string
	for _, s := range l.file.sections {
		switch {
		case slices.Contains(sections, s.name):
			l.unknownKeys(s)
		case slices.Contains(ignored, s.name):
			skipped = append(skipped, "["+s.name+"]")
		default:
			hint := suggest(s.name, sections, "[", "]")
			for _, g := range l.schema.groups {
				if hint == "" {
					hint = fmt.Sprintf(" (a section of its own must be named in [%s] %s)", g.section, g.list)
				}
			}
			l.faultf("%sunknown section [%s]%s", l.at(s.line), s.name, hint)
		}
	}
	if len(skipped) > 0 {
		l.loaded.Warnings = append(l.loaded.Warnings, fmt.Sprintf("%s does not use %s", l.process.Name, strings.Join(skipped, " ")))
	}
}

func (l *loader) unknownKeys(s iniSection) {
	var names []string
	for _, k := range l.schema.keys {
		if k.section != s.name {
			continue
		}
		names = append(names, k.name)
		if k.secret {
			names = append(names, k.name+"File")
		}
	}
	for _, k := range s.keys {
		if !slices.Contains(names, k.name) {
			l.faultf("%s[%s] unknown key %q%s", l.at(k.line), s.name, k.name, suggest(k.name, names, `"`, `"`))
		}
	}
}

// sectionsOfOthers lists the sections that other roles read, with those they name in turn.
func (l *loader) sectionsOfOthers(own []string) []string {
	var names []string
	for _, section := range otherRoles {
		if slices.Contains(own, section) {
			continue
		}
		names = append(names, section)
		for _, list := range []string{"Servers", "Name"} { // of [PeerServer], of [chatservers]
			if e, ok := l.file.lookup(section, list); ok && (section == "PeerServer" || section == "chatservers") {
				for name := range strings.SplitSeq(e.value, ",") {
					names = append(names, strings.TrimSpace(name))
				}
			}
		}
	}
	return names
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
