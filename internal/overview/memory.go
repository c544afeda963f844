package overview

import (
	"time"

	"parley/internal/ops"
)

const (
	step      = 5 * time.Second
	points    = int(time.Hour / step)
	maxEvents = 500
)

// Event is something that happened in the cluster, as seen by this status node.
type Event struct {
	Seq    uint64 `json:"seq"`
	AtMS   int64  `json:"at_ms"`
	Kind   string `json:"kind"` // a state of a node, left, or action
	Node   string `json:"node,omitempty"`
	Text   string `json:"text"`
	Remote string `json:"remote,omitempty"` // of an action: from where it was asked
}

// describe says how a node came into a state.
func describe(before, now string) string {
	switch now {
	case ops.StateOpen:
		switch before {
		case "":
			return "takes logins"
		case ops.StateSilent:
			return "answers again"
		case ops.StateDead:
			return "is back"
		}
		return "takes logins again"
	case ops.StateDraining:
		return "takes no logins and moves its clients to other nodes"
	case ops.StateDrained:
		return "has moved its clients"
	case ops.StateSilent:
		return "does not answer"
	case ops.StateDead:
		return "is dead: its lease has ended"
	}
	return now
}

// events are the latest ones.
type events struct {
	list []Event
	seq  uint64
}

func (e *events) add(ev Event) {
	e.seq++
	ev.Seq = e.seq
	if len(e.list) == maxEvents {
		e.list = append(e.list[:0], e.list[1:]...)
	}
	e.list = append(e.list, ev)
}

// after returns the events with higher numbers, oldest first.
func (e *events) after(seq uint64) []Event {
	if seq > e.seq {
		seq = 0 // of another life of this node
	}
	out := []Event{}
	for _, ev := range e.list {
		if ev.Seq > seq {
			out = append(out, ev)
		}
	}
	return out
}

// hour remembers a look every five seconds, for an hour.
type hour struct {
	next time.Time
	ring []moment // in order; at most points
}

type moment struct {
	at    int64
	all   sample
	nodes map[string]sample
}

// sample is a Point with the sessions, made small.
type sample [7]float32

// curveNames are the names of a sample's elements.
var curveNames = [len(sample{})]string{"sessions", "texts_per_s", "pushes_per_s", "logins_per_s", "refused_per_s", "text_p50_ms", "text_p99_ms"}

func sampleOf(sessions int, p Point) sample {
	return sample{
		float32(sessions), float32(p.Texts), float32(p.Pushes), float32(p.Logins), float32(p.Refused), float32(p.TextP50), float32(p.TextP99),
	}
}

func (h *hour) add(c *Cluster, now time.Time) {
	if now.Before(h.next) {
		return
	}
	h.next = now.Add(step - every/2)
	m := moment{at: c.AtMS, all: sampleOf(c.Sessions, c.Point), nodes: map[string]sample{}}
	for _, n := range c.Nodes[:min(len(c.Nodes), maxNodes)] {
		if n.State != ops.StateDead && n.State != ops.StateSilent {
			m.nodes[n.Name] = sampleOf(n.Sessions, n.Point)
		}
	}
	if len(h.ring) == points {
		h.ring = append(h.ring[:0], h.ring[1:]...)
	}
	h.ring = append(h.ring, m)
}

// Curves are the last hour: for each moment of AtMS one value, nil where a node did not answer.
type Curves struct {
	StepMS  int64                            `json:"step_ms"`
	AtMS    []int64                          `json:"at_ms"`
	Cluster map[string][]*float32            `json:"cluster"`
	Nodes   map[string]map[string][]*float32 `json:"nodes"`
}

func (h *hour) curves() Curves {
	c := Curves{StepMS: step.Milliseconds(), AtMS: []int64{}, Cluster: map[string][]*float32{}, Nodes: map[string]map[string][]*float32{}}
	for i, m := range h.ring {
		c.AtMS = append(c.AtMS, m.at)
		put(c.Cluster, i, len(h.ring), m.all)
		for name, s := range m.nodes {
			if c.Nodes[name] == nil {
				c.Nodes[name] = map[string][]*float32{}
			}
			put(c.Nodes[name], i, len(h.ring), s)
		}
	}
	return c
}

func put(curves map[string][]*float32, i, n int, s sample) {
	for k, name := range curveNames {
		if curves[name] == nil {
			curves[name] = make([]*float32, n)
		}
		curves[name][i] = &s[k]
	}
}
