package obs

import (
	"runtime"
	"runtime/debug"
)

// version is set by -ldflags "-X parley/internal/obs.version=v1.2.3" in a release build.
var version string

// Build says what this binary was made from. Fields that nobody recorded are "unknown" or false.
type Build struct {
	Version  string // a release's tag, or "dev"
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
