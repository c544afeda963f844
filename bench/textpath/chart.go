package main

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// load is what is shown of a trace.
type load struct {
	label string
	texts int
	bars  []bar
}

// bar is the mean of the texts around a quantile of the total, so that its parts add up.
type bar struct {
	name string
	text text
}

func summarise(label string, texts []text) load {
	slices.SortFunc(texts, func(a, b text) int { return cmp.Compare(a.total(), b.total()) })
	l := load{label: label, texts: len(texts)}
	for _, q := range []struct {
		name     string
		from, to float64
	}{{"p50", 0.45, 0.55}, {"p90", 0.88, 0.92}, {"p99", 0.985, 0.995}} {
		l.bars = append(l.bars, bar{q.name, mean(texts[int(q.from*float64(len(texts))):int(q.to*float64(len(texts)))])})
	}
	return l
}

func mean(texts []text) (m text) {
	for _, t := range texts {
		for i, d := range t.steps {
			m.steps[i] += d
		}
		for i, d := range t.states {
			m.states[i] += d
		}
	}
	n := int64(max(len(texts), 1))
	for i := range m.steps {
		m.steps[i] /= n
	}
	for i := range m.states {
		m.states[i] /= n
	}
	return m
}

func (l load) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s: %d texts\t", l.label, l.texts)
	for _, b := range l.bars {
		fmt.Fprintf(w, "%s\t", b.name)
	}
	row := func(name string, of func(t *text) int64) {
		fmt.Fprintf(w, "\n  %s\t", name)
		for _, b := range l.bars {
			fmt.Fprintf(w, "%v\t", time.Duration(of(&b.text)).Round(time.Microsecond))
		}
	}
	row("all", (*text).total)
	for i, name := range stepNames {
		row(name, func(t *text) int64 { return t.steps[i] })
	}
	for i, name := range stateNames {
		row(name, func(t *text) int64 { return t.states[i] })
	}
	fmt.Fprintln(w)
	_ = w.Flush()
}

var (
	stepColours  = [steps]string{"#7aa6c2", "#b9b9b9", "#d8d8d8", "#8fbf8f", "#d9c08a", "#e3b23c", "#dd8a3e", "#c9673f", "#a63d40", "#6c8a5a", "#486b3b", "#555555"}
	stateColours = [states]string{"#3f7f5f", "#d1495b", "#c3ccd6"}
)

const (
	width, left, barHeight = 960, 150, 18
	scale                  = width - left - 90
)

// draw returns the chart: for each load and quantile a bar of steps, and below it a bar of states. All bars are equally long, so that
// the steps of quick texts can be seen; their time stands behind them.
func draw(loads []load) []byte {
	var b bytes.Buffer
	y := 10
	for _, l := range loads {
		y += 24
		fmt.Fprintf(&b, `<text x="10" y="%d" font-weight="bold">%s (%d texts)</text>`+"\n", y, html.EscapeString(l.label), l.texts)
		y += 10
		for _, bar := range l.bars {
			fmt.Fprintf(&b, `<text x="10" y="%d">%s</text>`+"\n", y+14, bar.name)
			end := segments(&b, y, barHeight, bar.text.steps[:], stepColours[:], stepNames[:])
			fmt.Fprintf(&b, `<text x="%d" y="%d">%.2f ms</text>`+"\n", end+6, y+14, float64(bar.text.total())/1e6)
			segments(&b, y+barHeight, barHeight/3, bar.text.states[:], stateColours[:], stateNames[:])
			y += barHeight + barHeight/3 + 8
		}
	}
	y += 16
	y = legend(&b, y, "step (upper bar)", stepColours[:], stepNames[:])
	y = legend(&b, y, "its goroutine (lower bar)", stateColours[:], stateNames[:])
	var svg bytes.Buffer
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", width, y+6)
	fmt.Fprintf(&svg, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	svg.Write(b.Bytes())
	svg.WriteString("</svg>\n")
	return svg.Bytes()
}

// segments draws parts as shares of the whole width.
func segments(b *bytes.Buffer, y, height int, parts []int64, colours, names []string) (end int) {
	var sum, whole int64
	for _, d := range parts {
		whole += d
	}
	at := func(d int64) int { return left + int(d*scale/max(whole, 1)) }
	for i, d := range parts {
		if d <= 0 {
			continue
		}
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"><title>%s: %.3f ms</title></rect>`+"\n",
			at(sum), y, at(sum+d)-at(sum), height, colours[i], names[i], float64(d)/1e6)
		sum += d
	}
	return at(sum)
}

func legend(b *bytes.Buffer, y int, title string, colours, names []string) int {
	fmt.Fprintf(b, `<text x="10" y="%d" font-style="italic">%s</text>`+"\n", y, title)
	for i, name := range names {
		x := left + i%4*200
		if i > 0 && i%4 == 0 {
			y += 18
		}
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="11" height="11" fill="%s"/><text x="%d" y="%d">%s</text>`+"\n", x, y-10, colours[i], x+16, y, name)
	}
	return y + 22
}
