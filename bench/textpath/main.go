// Command textpath shows where texts spend their time in a chat node, from when the node sees the frame until the answer is
// written. It reads runtime traces, such as those of /debug/pprof/trace, in which package commit marks each text and
// package store each statement, as the text that `go tool trace -d=parsed` makes of them: the form of the traces themselves changes with Go.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	svg := flag.String("o", "", "write the chart to this `file`, as SVG")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: textpath [-o FILE] LABEL=FILE ...")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(flag.Args(), *svg, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "textpath:", err)
		os.Exit(1)
	}
}

func run(args []string, svg string, out io.Writer) error {
	var loads []load
	for _, arg := range args {
		label, file, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q is not LABEL=FILE", arg)
		}
		texts, err := parse(file)
		if err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		if len(texts) < 100 {
			return fmt.Errorf("read %s: %d whole texts, at least 100 are needed: trace for longer", file, len(texts))
		}
		loads = append(loads, summarise(label, texts))
	}
	for _, l := range loads {
		l.print(out)
	}
	if svg == "" {
		return nil
	}
	return os.WriteFile(svg, draw(loads), 0o644)
}

// parse returns the texts of a trace that were queued and answered within it.
func parse(file string) ([]text, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := newParser()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.line(lines.Text())
	}
	return p.done, lines.Err()
}
