package obs

import (
	"runtime"
	"runtime/debug"
	"strings"
)

// version and commit are set by the linker: -ldflags "-X parley/internal/obs.version=1.2.3 -X parley/internal/obs.commit=…". A
// commit that ends in "-modified" names the sources that were changed since.
var version, commit string

// Build says what this binary was made from. Fields that nobody recorded are "unknown" or false.
type Build struct {
	Version  string // as in the file VERSION, or "dev"
	Commit   string // of the sources, shortened to 12 digits
	Modified bool   // the sources differed from that commit
	Go       string // the toolchain
}

// ReadBuild returns what the linker and the go command recorded.
func ReadBuild() Build {
	b := Build{Version: version, Commit: "unknown", Go: runtime.Version()}
	if b.Version == "" {
		b.Version = "dev"
	}
	if name, modified := strings.CutSuffix(commit, "-modified"); name != "" {
		b.Commit, b.Modified = name, modified
		return b
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value[:min(len(s.Value), 12)]
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// Version returns the build in one line, the same in --version, the first log record and parley_build_info.
func Version() string {
	b := ReadBuild()
	s := b.Version + " ("
	if b.Commit != "unknown" {
		s += "commit " + b.Commit + ", "
	}
	if b.Modified {
		s += "modified, "
	}
	return s + b.Go + ")"
}
