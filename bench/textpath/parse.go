package main

import (
	"strconv"
	"strings"
)

// The steps of a text, in order.
const (
	stepRead   = iota // from when the connection's goroutine was to run until the text was queued
	stepBehind        // the shard was busy with other texts
	stepWake          // until the shard's goroutine had taken the text
	stepAuthorise
	stepAlone // a text alone in its batch: all of SQL
	stepLock
	stepInsert
	stepThreads
	stepCommit
	stepPush
	stepAnswer
	stepOther // between the steps
	steps
)

var stepNames = [steps]string{
	"read and queue", "behind another transaction", "wake the shard", "authorise", "stored procedure, with COMMIT",
	"SELECT … FOR UPDATE", "INSERT", "UPDATE", "COMMIT", "push", "answer", "between them",
}

// regions maps the regions of a trace to steps.
var regions = map[string]int{
	"authorise": stepAuthorise, "alone": stepAlone,
	"lock": stepLock, "insert": stepInsert, "threads": stepThreads, "commit": stepCommit, "push": stepPush, "answer": stepAnswer,
}

// What the goroutine of a step does meanwhile.
const (
	running  = iota // on a processor
	runnable        // ready, without a processor
	waiting         // for SQL, or for its turn
	states
)

var stateNames = [states]string{"runs", "ready, waits for a processor", "waits for SQL, or for its turn"}

// text is one text's time in nanoseconds.
type text struct {
	steps  [steps]int64
	states [states]int64
}

func (t *text) total() (sum int64) {
	for _, d := range t.steps {
		sum += d
	}
	return sum
}

// goroutine is what the parser knows of a goroutine.
type goroutine struct {
	state int
	since int64
	ready int64 // when it last became runnable
	spent [states]int64

	region string
	began  int64

	batch *batch
	ended int64 // its last batch
}

// until counts the time up to now for the goroutine's state.
func (g *goroutine) until(now int64) {
	if g.since > 0 {
		g.spent[g.state] += now - g.since
	}
	g.since = now
}

// queued is a text on its way to a shard.
type queued struct {
	read   text
	queued int64
}

// batch is what a shard commits at once.
type batch struct {
	texts []queued
	taken int64
	prev  int64 // end of the batch before
	from  [states]int64
	steps [steps]int64
}

type parser struct {
	goroutines map[string]*goroutine
	shards     map[string][]queued
	done       []text
}

func newParser() *parser {
	return &parser{goroutines: make(map[string]*goroutine), shards: make(map[string][]queued)}
}

// line takes a line of `go tool trace -d=parsed`. Lines of stacks and of other events are skipped.
func (p *parser) line(s string) {
	if !strings.HasPrefix(s, "M=") {
		return
	}
	fields := strings.Fields(s)
	if len(fields) < 5 {
		return
	}
	now, err := strconv.ParseInt(strings.TrimPrefix(fields[4], "Time="), 10, 64)
	if err != nil {
		return
	}
	switch fields[3] {
	case "StateTransition":
		if len(fields) >= 7 && strings.HasPrefix(fields[5], "GoID=") {
			p.transition(fields[5][len("GoID="):], fields[6], now)
		}
	case "RegionBegin":
		g := p.of(fields[2][len("G="):])
		g.region, g.began = quoted(s, "Type="), now
	case "RegionEnd":
		g := p.of(fields[2][len("G="):])
		if name := quoted(s, "Type="); name == g.region && g.batch != nil {
			p.end(g, name, now)
		}
		g.region = ""
	case "Log":
		g := p.of(fields[2][len("G="):])
		switch quoted(s, "Category=") {
		case "text queued":
			p.queue(g, quoted(s, "Message="), now)
		case "texts taken":
			p.take(g, quoted(s, "Message="), now)
		}
	}
}

func (p *parser) of(id string) *goroutine {
	g := p.goroutines[id]
	if g == nil {
		g = new(goroutine)
		p.goroutines[id] = g
	}
	return g
}

func (p *parser) transition(id, change string, now int64) {
	_, to, _ := strings.Cut(change, "->")
	if to == "NotExist" {
		delete(p.goroutines, id)
		return
	}
	g := p.of(id)
	g.until(now)
	switch to {
	case "Runnable":
		g.state, g.ready = runnable, now
	case "Running", "Syscall":
		g.state = running
	default:
		g.state = waiting
	}
}

// queue notes a text that goroutine g puts into a shard's queue.
func (p *parser) queue(g *goroutine, shard string, now int64) {
	q := queued{queued: now}
	if g.ready > 0 {
		q.read.steps[stepRead] = now - g.ready
		q.read.states[running] = now - g.ready // nearly all of it
		p.shards[shard] = append(p.shards[shard], q)
		return
	}
	p.shards[shard] = append(p.shards[shard], queued{}) // not whole
}

// take notes that the shard of goroutine g begins a batch.
func (p *parser) take(g *goroutine, message string, now int64) {
	shard, count, _ := strings.Cut(message, " ")
	n, err := strconv.Atoi(count)
	waits := p.shards[shard]
	if err != nil || n > len(waits) {
		p.shards[shard], g.batch = nil, nil // queued before the trace began
		return
	}
	g.until(now)
	g.batch = &batch{texts: waits[:n:n], taken: now, prev: g.ended, from: g.spent}
	p.shards[shard] = waits[n:]
}

// end notes the end of a step of a batch.
func (p *parser) end(g *goroutine, region string, now int64) {
	step, ok := regions[region]
	if !ok {
		return
	}
	b := g.batch
	b.steps[step] += now - g.began
	if step != stepAnswer {
		return
	}
	g.until(now)
	g.batch, g.ended = nil, now
	b.steps[stepOther] = now - b.taken
	for _, d := range b.steps[:stepOther] {
		b.steps[stepOther] -= d
	}
	for _, q := range b.texts {
		if q.queued == 0 || b.prev == 0 {
			continue
		}
		t := q.read
		for i, d := range b.steps {
			t.steps[i] += d
		}
		t.steps[stepBehind] = max(0, min(b.taken, b.prev)-q.queued)
		t.steps[stepWake] = b.taken - q.queued - t.steps[stepBehind]
		t.states[waiting] += t.steps[stepBehind]
		t.states[runnable] += t.steps[stepWake]
		for i := range states {
			t.states[i] += g.spent[i] - b.from[i]
		}
		p.done = append(p.done, t)
	}
}

// quoted returns the quoted value after key.
func quoted(s, key string) string {
	_, rest, ok := strings.Cut(s, key+`"`)
	if !ok {
		return ""
	}
	value, _, _ := strings.Cut(rest, `"`)
	return value
}
