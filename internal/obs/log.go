package obs

import (
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/lmittmann/tint"
)

// ParseLevel returns the level called name (debug, info, warn, error, in any case), and Info for any other.
func ParseLevel(name string) slog.Level {
	var level slog.Level
	if level.UnmarshalText([]byte(name)) != nil {
		return slog.LevelInfo
	}
	return level
}

// NewLogger returns a logger that writes records of at least the level (as ParseLevel reads it) to w, each with the
// node's name unless that is empty. format is "json", "text" (coloured when w is a terminal), or "auto": text on a
// terminal, JSON elsewhere. Durations are logged in milliseconds in JSON. It is safe for concurrent use when w is a
// file or serialises its writes.
func NewLogger(w io.Writer, level, format, node string) *slog.Logger {
	terminal := isTerminal(w)
	if format == "auto" || format == "" {
		format = "json"
		if terminal {
			format = "text"
		}
	}
	var h slog.Handler
	if format == "text" {
		h = tint.NewTextHandler(w, &tint.Options{Level: ParseLevel(level), TimeFormat: "15:04:05.000", NoColor: !terminal || os.Getenv("NO_COLOR") != ""})
	} else {
		h = slog.NewJSONHandler(w, &slog.HandlerOptions{Level: ParseLevel(level), ReplaceAttr: jsonAttr})
	}
	log := slog.New(h)
	if node != "" {
		log = log.With("node", node)
	}
	return log
}

// jsonAttr names the standard keys as our documentation does and gives durations a unit machines can compare.
func jsonAttr(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 {
		switch a.Key {
		case slog.TimeKey:
			return slog.Attr{Key: "ts", Value: slog.StringValue(a.Value.Time().UTC().Format("2006-01-02T15:04:05.000Z"))}
		case slog.LevelKey:
			return slog.Attr{Key: "level", Value: slog.StringValue(strings.ToLower(a.Value.String()))}
		}
	}
	if a.Value.Kind() == slog.KindDuration {
		return slog.Float64(a.Key+"_ms", float64(a.Value.Duration())/float64(time.Millisecond))
	}
	return a
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb" && f.Name() != os.DevNull
}
