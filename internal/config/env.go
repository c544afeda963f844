package config

import (
	"regexp"
	"slices"
	"strings"
)

const envPrefix = "PARLEY_"

// Variables of our tools and tests, whose environment nodes may share.
var (
	toolVariables = []string{"PARLEY_PASSWORD", "PARLEY_CODE", "PARLEY_EMAIL", "PARLEY_GATE"}
	toolPrefixes  = []string{"PARLEY_BENCH_", "PARLEY_SEEDED_", "PARLEY_TEST_"}
)

func isToolVariable(name string) bool {
	return slices.Contains(toolVariables, name) || slices.ContainsFunc(toolPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// A Kubernetes Service called parley, or parley-redis, puts variables of these forms into every container of its namespace.
var (
	serviceLink     = regexp.MustCompile(`^PARLEY(_.+)?_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)
	serviceLinkPort = regexp.MustCompile(`^PARLEY(_.+)?_PORT$`)
	serviceLinkURL  = regexp.MustCompile(`^(tcp|udp|sctp)://`)
)

// isServiceLink reports whether a variable is one of those. PARLEY_REDIS_PORT is a key of Parley too; then the value
// decides.
func isServiceLink(name, value string) bool {
	return serviceLink.MatchString(name) || serviceLinkPort.MatchString(name) && serviceLinkURL.MatchString(value)
}

// loadEnv takes the variables that could be Parley's. A variable that is set but empty counts as not set.
func (l *loader) loadEnv() {
	l.env = map[string]string{}
	var links []string
	for _, entry := range l.process.Environ {
		name, value, _ := strings.Cut(entry, "=")
		switch {
		case !strings.HasPrefix(name, envPrefix) || value == "" || isToolVariable(name):
		case isServiceLink(name, value):
			links = append(links, name)
		default:
			l.env[name] = value
		}
	}
	if len(links) > 0 {
		slices.Sort(links)
		l.loaded.Warnings = append(l.loaded.Warnings, "ignored variables that Kubernetes sets for its Services: "+strings.Join(links, " "))
	}
}

// unknownEnv refuses variables that no key takes, except those of sections that only other roles have: several nodes may
// share one environment, as they may share a file.
func (l *loader) unknownEnv() {
	own := l.schema.sections()
	var known []string
	for _, k := range l.schema.keys {
		known = append(known, strings.TrimPrefix(k.env(), envPrefix))
		if k.secret {
			known = append(known, strings.TrimPrefix(k.env(), envPrefix)+"_FILE")
		}
	}
	var skipped []string
	for _, entry := range l.process.Environ {
		name, _, _ := strings.Cut(entry, "=")
		if _, set := l.env[name]; !set || l.used[name] {
			continue
		}
		rest := strings.TrimPrefix(name, envPrefix)
		of := func(section string) bool { return strings.HasPrefix(rest, screaming(section)+"_") }
		if !slices.ContainsFunc(own, of) && slices.ContainsFunc(otherRoles, of) {
			skipped = append(skipped, name)
			continue
		}
		l.faultf("unknown variable %s%s", name, suggest(rest, known, envPrefix, ""))
	}
	if len(skipped) > 0 {
		l.loaded.Warnings = append(l.loaded.Warnings, l.process.Name+" does not use "+strings.Join(skipped, " "))
	}
}
