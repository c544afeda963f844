package local

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"parley/internal/cluster"
)

// Fault is one thing to do to one process at one time of the load.
type Fault struct {
	What string // kill, term, pause, resume, restart
	Node string // as in the layout: chat2, redis, mariadb, status1, gate1
	At   time.Duration
}

func (f Fault) String() string { return fmt.Sprintf("%s %s at %v", f.What, f.Node, f.At) }

var faults = []string{"kill", "term", "pause", "resume", "restart"}

// ParseFaults reads a plan such as "kill chatnode2 at 10s, restart at 14s": one step after each comma, in the order of
// time; a step without a name is about the process of the step before.
func ParseFaults(plan string) ([]Fault, error) {
	var out []Fault
	if strings.TrimSpace(plan) == "" {
		return nil, nil
	}
	for step := range strings.SplitSeq(plan, ",") {
		f := Fault{}
		w := strings.Fields(step)
		switch {
		case len(w) == 4 && w[2] == "at":
			f.Node = NodeName(w[1])
		case len(w) == 3 && w[1] == "at" && len(out) > 0:
			f.Node = out[len(out)-1].Node
		default:
			return nil, fmt.Errorf("fault %q: want WHAT NODE at TIME, as in: kill chatnode2 at 10s, restart at 14s", strings.TrimSpace(step))
		}
		if f.What = w[0]; !slices.Contains(faults, f.What) {
			return nil, fmt.Errorf("fault %q: %q is none of %s", strings.TrimSpace(step), f.What, strings.Join(faults, ", "))
		}
		at, err := time.ParseDuration(w[len(w)-1])
		if err != nil || at < 0 {
			return nil, fmt.Errorf("fault %q: %q is not a time such as 10s", strings.TrimSpace(step), w[len(w)-1])
		}
		if f.At = at; len(out) > 0 && at < out[len(out)-1].At {
			return nil, fmt.Errorf("fault %q comes before the one it follows", strings.TrimSpace(step))
		}
		out = append(out, f)
	}
	return out, nil
}

// NodeName accepts the names of the binaries as well: chatnode2 is chat2, mysql is mariadb.
func NodeName(s string) string {
	for _, role := range []string{"chat", "status", "gate"} {
		if rest, ok := strings.CutPrefix(s, role+"node"); ok {
			if rest == "" {
				rest = "1"
			}
			return role + rest
		}
	}
	if s == "mysql" || s == "sql" {
		return "mariadb"
	}
	return s
}

// CheckFaults says whether a plan can be carried out, before anything is started: on so many chat nodes, or on
// standalone when there are none.
func CheckFaults(plan []Fault, chat int) error {
	for _, f := range plan {
		if chat == 0 {
			if f.Node != "standalone" || f.What == "restart" {
				return fmt.Errorf("fault %q: there is one process, called standalone, which cannot be restarted on its free ports", f)
			}
			continue
		}
		ok := slices.Contains([]string{"redis", "mariadb", "status1", "gate1"}, f.Node)
		if n, found := strings.CutPrefix(f.Node, "chat"); found {
			i, err := strconv.Atoi(n)
			ok = err == nil && i >= 1 && i <= chat
		}
		if !ok {
			return fmt.Errorf("fault %q: there is no %s: chat1 to chat%d, status1, gate1, redis, mariadb", f, f.Node, chat)
		}
	}
	return nil
}

// Do carries one fault out.
func (l *Layout) Do(ctx context.Context, f Fault) error {
	i := slices.IndexFunc(l.Nodes, func(n Node) bool { return n.Name == f.Node })
	if i < 0 {
		return fmt.Errorf("fault %q: no such process", f)
	}
	p := l.Nodes[i].Proc
	var err error
	switch f.What {
	case "kill":
		err = p.Kill()
	case "term":
		_, err = p.Terminate(ctx)
	case "pause":
		err = p.Pause()
	case "resume":
		err = p.Resume()
	case "restart":
		err = p.Start(ctx)
		if errors.Is(err, cluster.ErrRunning) {
			err = p.Restart(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("fault %q: %w", f, err)
	}
	return nil
}
