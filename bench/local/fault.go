package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"parley/lab/faultproxy"
	"parley/lab/launch"
)

// Fault is one action on a process or a link at a time of the load.
type Fault struct {
	What string // kill, term, pause, resume, restart; for links slow, silence, cut, heal
	// Node is a name in the layout, such as chat2, redis, mariadb, status1, gate1, or a link of a chat node, such as
	// chat2-redis, chat1-mariadb.
	Node string
	At   time.Duration
	// By is the latency added to a link in each direction; 0: 50 ms.
	By time.Duration
}

func (f Fault) String() string { return fmt.Sprintf("%s %s at %v", f.What, f.Node, f.At) }

// addLinks puts a proxy into each link of a node that the plan names, before the node's configuration is written.
func (l *Layout) addLinks(node string, plan []Fault, f *launch.INI) error {
	for _, fault := range plan {
		of, server, ok := fault.link()
		if !ok || of != node || l.links[fault.Node] != nil {
			continue
		}
		section := map[string]string{"redis": "Redis", "mariadb": "Mysql"}[server]
		p, err := faultproxy.Listen(net.JoinHostPort(f.Get(section, "Host"), f.Get(section, "Port")), faultproxy.Options{})
		if err != nil {
			return err
		}
		l.links[fault.Node] = p
		host, port, err := net.SplitHostPort(p.Addr())
		if err != nil {
			return err
		}
		f.Set(section, "Host", host)
		f.Set(section, "Port", port)
	}
	return nil
}

var (
	faults     = []string{"kill", "term", "pause", "resume", "restart"}
	linkFaults = []string{"slow", "silence", "cut", "heal"}
)

// DefaultSlow is the latency that a slow link adds in each direction.
const DefaultSlow = 50 * time.Millisecond

// link splits the name of a link.
func (f Fault) link() (node, server string, ok bool) { return strings.Cut(f.Node, "-") }

// ParseFaults parses a plan such as "kill chatnode2 at 10s, restart at 14s". Steps are separated by commas and in
// order of time. A step without a name applies to the process of the step before.
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
		what, by, slower := strings.Cut(w[0], ":")
		f.What = what
		if slower {
			var err error
			if f.By, err = time.ParseDuration(by); err != nil || f.By <= 0 || what != "slow" {
				return nil, fmt.Errorf("fault %q: want slow:DURATION, as in slow:20ms", strings.TrimSpace(step))
			}
		}
		allowed := faults
		if _, _, link := f.link(); link {
			allowed = linkFaults
		}
		if !slices.Contains(allowed, f.What) {
			return nil, fmt.Errorf("fault %q: %q is none of %s", strings.TrimSpace(step), f.What, strings.Join(allowed, ", "))
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

// NodeName also accepts the names of the programs: chatnode2 is chat2, mysql is mariadb.
func NodeName(s string) string {
	if node, server, ok := strings.Cut(s, "-"); ok {
		return NodeName(node) + "-" + NodeName(server)
	}
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

// CheckFaults reports whether a plan can be executed, before anything is started, with the given number of chat nodes
// or, if it is 0, on standalone.
func CheckFaults(plan []Fault, chat int) error {
	for _, f := range plan {
		if chat == 0 {
			if f.Node != "standalone" || f.What == "restart" {
				return fmt.Errorf("fault %q: there is one process, called standalone, which cannot be restarted on its free ports", f)
			}
			continue
		}
		ok := slices.Contains([]string{"redis", "mariadb", "status1", "gate1"}, f.Node)
		name := f.Node
		if node, server, link := f.link(); link {
			if server != "redis" && server != "mariadb" {
				return fmt.Errorf("fault %q: links are those of chat nodes to redis and mariadb, such as chat1-redis", f)
			}
			name = node
		}
		if n, found := strings.CutPrefix(name, "chat"); found {
			i, err := strconv.Atoi(n)
			ok = err == nil && i >= 1 && i <= chat
		}
		if !ok {
			return fmt.Errorf("fault %q: there is no %s: chat1 to chat%d, status1, gate1, redis, mariadb", f, f.Node, chat)
		}
	}
	return nil
}

// Do executes one fault.
func (l *Layout) Do(ctx context.Context, f Fault) error {
	if _, _, link := f.link(); link {
		p := l.links[f.Node]
		if p == nil {
			return fmt.Errorf("fault %q: the link has no proxy", f)
		}
		switch f.What {
		case "slow":
			by := f.By
			if by == 0 {
				by = DefaultSlow
			}
			p.SetBoth(faultproxy.Faults{Latency: by})
		case "silence":
			p.SetBoth(faultproxy.Faults{Silent: true})
		case "cut":
			p.Refuse(true)
			p.Cut()
		case "heal":
			p.Heal()
		}
		return nil
	}
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
		if errors.Is(err, launch.ErrRunning) {
			err = p.Restart(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("fault %q: %w", f, err)
	}
	return nil
}
