package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"parley/internal/obs"
)

// opsFlags are what every command for operators has.
type opsFlags struct {
	Ops   string `help:"Address of the operations listener of a status node, or of standalone. Default http://127.0.0.1:9090." placeholder:"URL" default:"http://127.0.0.1:9090" env:"PARLEY_OPS"`
	Token string `help:"[Ops] Token of that node, if it has one." env:"PARLEY_OPS_TOKEN"`
}

// opsTimeout bounds a request. One for the next look waits up to 10 s.
const opsTimeout = 20 * time.Second

// do makes a request to /api/v1 and decodes the answer into out.
func (f *opsFlags) do(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, opsTimeout)
	defer cancel()
	base := f.Ops
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	r, err := obs.NewRequest(ctx, method, strings.TrimSuffix(base, "/")+"/api/v1/"+path, f.Token, in)
	if err != nil {
		return usageError{fmt.Errorf("--ops: %w", err)}
	}
	rsp, err := http.DefaultClient.Do(r)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("no status node answers at %s: see --ops", f.Ops)
	}
	if err != nil {
		return err
	}
	defer rsp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(rsp.Body, 16<<20))
	if err != nil {
		return err
	}
	if rsp.StatusCode != http.StatusOK {
		var refusal struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(body, &refusal) != nil || refusal.Error == "" {
			return fmt.Errorf("%s is no status node: %s", f.Ops, rsp.Status)
		}
		return errors.New(refusal.Error)
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("%s is no status node: %w", f.Ops, err)
	}
	return nil
}

// clusterView is what the commands show of /api/v1/cluster.
type clusterView struct {
	Seq         uint64     `json:"seq"`
	AtMS        int64      `json:"at_ms"`
	LeaseAgeMS  int64      `json:"lease_age_ms"`
	Sessions    int        `json:"sessions"`
	Connections int        `json:"connections"`
	Nodes       []nodeView `json:"nodes"`
	rates
}

type rates struct {
	Texts    float64 `json:"texts_per_s"`
	Pushes   float64 `json:"pushes_per_s"`
	Logins   float64 `json:"logins_per_s"`
	Refused  float64 `json:"refused_per_s"`
	TextP50  float64 `json:"text_p50_ms"`
	TextP99  float64 `json:"text_p99_ms"`
	LoginP99 float64 `json:"login_p99_ms"`
}

type nodeView struct {
	Name        string             `json:"name"`
	State       string             `json:"state"`
	Error       string             `json:"error"`
	Version     string             `json:"version"`
	ClientAddr  string             `json:"client_addr"`
	StartedMS   int64              `json:"started_ms"`
	HeardMS     int64              `json:"heard_ms"`
	Sessions    int                `json:"sessions"`
	Native      int                `json:"native"`
	Connections int                `json:"connections"`
	Queues      map[string]float64 `json:"queues"`
	Moving      *movingView        `json:"moving"`
	rates
}

type movingView struct {
	Reason   string  `json:"reason"`
	BeganMS  int64   `json:"began_ms"`
	EndedMS  int64   `json:"ended_ms"`
	Told     int     `json:"told"`
	Moved    int     `json:"moved"`
	Returned int     `json:"returned"`
	Missing  int     `json:"missing"`
	Ended    int     `json:"ended"`
	Left     int     `json:"left"`
	GapP50MS float64 `json:"gap_p50_ms"`
	GapP99MS float64 `json:"gap_p99_ms"`
	GapMaxMS float64 `json:"gap_max_ms"`
}

func (m *movingView) String() string {
	s := fmt.Sprintf("%d of %d clients moved", m.Moved, m.Told)
	if m.Moved > 0 {
		s += fmt.Sprintf(", gap p50 %.0f ms, p99 %.0f ms, max %.0f ms", m.GapP50MS, m.GapP99MS, m.GapMaxMS)
	}
	for _, part := range []struct {
		n    int
		what string
	}{{m.Missing, "not seen again"}, {m.Returned, "came back here"}, {m.Ended, "ended without a next node"}, {m.Left, "still here"}} {
		if part.n > 0 {
			s += fmt.Sprintf(", %d %s", part.n, part.what)
		}
	}
	return s
}

// look returns the latest look at the cluster, or the first one after another.
func (f *opsFlags) look(ctx context.Context, after uint64) (c clusterView, err error) {
	err = f.do(ctx, http.MethodGet, "cluster?after="+strconv.FormatUint(after, 10), nil, &c)
	return c, err
}

// printNodes writes a table of the nodes.
func printNodes(w io.Writer, c *clusterView) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "NODE\tSTATE\tSESSIONS\tCONNS\tTEXT/S\tPUSH/S\tLOGIN/S\tREFUSED/S\tTEXT P50\tP99\tWAITING\tUP\t")
	for _, n := range c.Nodes {
		up := "-"
		if n.StartedMS > 0 {
			up = time.Duration(max(c.AtMS-n.StartedMS, 0) * int64(time.Millisecond)).Round(time.Second).String()
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%.0f\t%.0f\t%.1f\t%.1f\t%.1f ms\t%.1f ms\t%.0f\t%s\t\n", n.Name, n.State, n.Sessions, n.Connections,
			n.Texts, n.Pushes, n.Logins, n.Refused, n.TextP50, n.TextP99, n.Queues["texts"]+n.Queues["logins"], up)
	}
	fmt.Fprintf(t, "all\t\t%d\t%d\t%.0f\t%.0f\t%.1f\t%.1f\t%.1f ms\t%.1f ms\t\t\t\n", c.Sessions, c.Connections,
		c.Texts, c.Pushes, c.Logins, c.Refused, c.TextP50, c.TextP99)
	_ = t.Flush() // standard output
	for _, n := range c.Nodes {
		if n.Error != "" {
			fmt.Fprintf(w, "%s: %s\n", n.Name, n.Error)
		}
		if n.Moving != nil && (n.Moving.EndedMS == 0 || c.AtMS-n.Moving.EndedMS < time.Hour.Milliseconds()) {
			fmt.Fprintf(w, "%s: %s: %v\n", n.Name, n.Moving.Reason, n.Moving)
		}
	}
	if c.LeaseAgeMS > 3000 {
		fmt.Fprintf(w, "Redis has not answered for %v\n", time.Duration(c.LeaseAgeMS)*time.Millisecond)
	}
}

type nodesCmd struct {
	opsFlags
	JSON bool `help:"Print what the API answers."`
}

func (cmd *nodesCmd) Run(e *environment) error {
	if cmd.JSON {
		var raw json.RawMessage
		if err := cmd.do(e.ctx, http.MethodGet, "nodes", nil, &raw); err != nil {
			return err
		}
		fmt.Fprintf(e.out, "%s\n", raw)
		return nil
	}
	c, err := cmd.look(e.ctx, 0)
	if err != nil {
		return err
	}
	printNodes(e.out, &c)
	return nil
}

type topCmd struct {
	opsFlags
	Count int `help:"Stop after this many tables; 0 means never." default:"0"`
}

func (cmd *topCmd) Run(e *environment) error {
	var seq uint64
	for i := 0; cmd.Count == 0 || i < cmd.Count; i++ {
		c, err := cmd.look(e.ctx, seq)
		if e.ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		seq = c.Seq
		var table bytes.Buffer
		if e.person {
			table.WriteString("\x1b[H\x1b[2J")
		}
		fmt.Fprintf(&table, "%s  %d nodes\n\n", time.UnixMilli(c.AtMS).Format(time.TimeOnly), len(c.Nodes))
		printNodes(&table, &c)
		if _, err := e.out.Write(table.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

type nodeCmd struct {
	Drain   drainCmd   `cmd:"" help:"Take no logins on a node and move its clients to the other nodes."`
	Undrain undrainCmd `cmd:"" help:"Take logins on a node again."`
}

// paceFlags are how fast clients are moved.
type paceFlags struct {
	Over time.Duration `help:"Spread the goodbyes over this time. Default: the node's [Limits] DrainTimeout."`
	Rate int           `help:"Move at most so many clients per second and node. Default 500."`
}

type pace struct {
	OverMS int64 `json:"over_ms,omitempty"`
	Rate   int   `json:"rate,omitempty"`
}

func (f paceFlags) pace() pace { return pace{f.Over.Milliseconds(), f.Rate} }

type drainCmd struct {
	opsFlags
	paceFlags
	Node   string `arg:"" help:"Name of the node."`
	NoWait bool   `help:"Do not wait until the clients have moved."`
}

func (cmd *drainCmd) Run(e *environment) error {
	if err := cmd.do(e.ctx, http.MethodPost, "nodes/"+url.PathEscape(cmd.Node)+"/drain", cmd.pace(), &struct{}{}); err != nil {
		return err
	}
	if cmd.NoWait {
		return nil
	}
	var seq uint64
	seen := false
	for {
		c, err := cmd.look(e.ctx, seq)
		if err != nil {
			return err
		}
		seq = c.Seq
		n := c.node(cmd.Node)
		switch {
		case n == nil:
			return fmt.Errorf("%s has left the cluster", cmd.Node)
		case n.State == "drained" && n.Moving != nil:
			fmt.Fprintf(e.out, "%s is drained: %v\n", n.Name, n.Moving)
			return nil
		case n.State == "draining":
			seen = true
			if e.person && n.Moving != nil {
				fmt.Fprintf(e.err, "%v\n", n.Moving)
			}
		case seen: // a look before the drain shows the node open
			return fmt.Errorf("%s is %s", n.Name, n.State)
		}
	}
}

func (c *clusterView) node(name string) *nodeView {
	for i := range c.Nodes {
		if c.Nodes[i].Name == name {
			return &c.Nodes[i]
		}
	}
	return nil
}

type undrainCmd struct {
	opsFlags
	Node string `arg:"" help:"Name of the node."`
}

func (cmd *undrainCmd) Run(e *environment) error {
	return cmd.do(e.ctx, http.MethodPost, "nodes/"+url.PathEscape(cmd.Node)+"/undrain", nil, &struct{}{})
}

type sessionCmd struct {
	List sessionListCmd `cmd:"" help:"List sessions."`
	Kick sessionKickCmd `cmd:"" help:"End the sessions of a user, who has to log in with the password again."`
}

type sessionView struct {
	Node    string `json:"node"`
	UID     int32  `json:"uid"`
	Device  string `json:"device"`
	SID     string `json:"sid"`
	Native  bool   `json:"native"`
	SinceMS int64  `json:"since_ms"`
	SeenMS  int64  `json:"seen_ms"`
	Queued  int    `json:"queued"`
}

type sessionListCmd struct {
	opsFlags
	Node  string `help:"Of this node only."`
	UID   int32  `help:"Of this user only."`
	Limit int    `help:"At most so many; 0 means all." default:"100"`
}

func (cmd *sessionListCmd) Run(e *environment) error {
	t := tabwriter.NewWriter(e.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tUID\tDEVICE\tSESSION\tSINCE\tLAST FRAME\tQUEUED")
	for left, cursor := cmd.Limit, ""; ; {
		q := url.Values{"cursor": {cursor}}
		if cmd.Node != "" {
			q.Set("node", cmd.Node)
		}
		if cmd.UID != 0 {
			q.Set("uid", strconv.Itoa(int(cmd.UID)))
		}
		if cmd.Limit > 0 {
			q.Set("limit", strconv.Itoa(left))
		}
		var page struct {
			Sessions []sessionView     `json:"sessions"`
			Cursor   string            `json:"cursor"`
			Failed   map[string]string `json:"failed"`
		}
		if err := cmd.do(e.ctx, http.MethodGet, "sessions?"+q.Encode(), nil, &page); err != nil {
			return err
		}
		for _, s := range page.Sessions {
			device := s.Device
			if !s.Native {
				device = "(stock)"
			}
			at := func(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
			fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\t%d\n", s.Node, s.UID, device, s.SID, at(s.SinceMS), at(s.SeenMS), s.Queued)
		}
		for node, reason := range page.Failed {
			fmt.Fprintf(e.err, "%s: %s\n", node, reason)
		}
		left -= len(page.Sessions)
		if cursor = page.Cursor; cursor == "" || cmd.Limit > 0 && left <= 0 {
			return t.Flush()
		}
	}
}

type sessionKickCmd struct {
	opsFlags
	UID    int32   `arg:"" help:"The user."`
	Device *string `help:"Only the sessions of this device."`
	SID    string  `name:"session" help:"Only this session."`
}

func (cmd *sessionKickCmd) Run(e *environment) error {
	asked := struct {
		UID    int32   `json:"uid"`
		SID    string  `json:"sid,omitempty"`
		Device *string `json:"device,omitempty"`
	}{cmd.UID, cmd.SID, cmd.Device}
	var done struct {
		Ended  int               `json:"ended"`
		Failed map[string]string `json:"failed"`
	}
	if err := cmd.do(e.ctx, http.MethodPost, "sessions/kick", asked, &done); err != nil {
		return err
	}
	fmt.Fprintf(e.out, "%d sessions ended\n", done.Ended)
	return failures(done.Failed)
}

// failures returns an error that names the nodes that failed, nil if there are none.
func failures(failed map[string]string) error {
	var errs []error
	for node, reason := range failed {
		errs = append(errs, fmt.Errorf("%s: %s", node, reason))
	}
	return errors.Join(errs...)
}

type rebalanceCmd struct {
	opsFlags
	paceFlags
	DryRun bool `help:"Only print what would be moved."`
}

func (cmd *rebalanceCmd) Run(e *environment) error {
	asked := struct {
		pace
		DryRun bool `json:"dry_run,omitempty"`
	}{cmd.pace(), cmd.DryRun}
	var done struct {
		Plan []struct {
			From     string `json:"from"`
			To       string `json:"to"`
			Sessions int    `json:"sessions"`
		} `json:"plan"`
		Failed map[string]string `json:"failed"`
	}
	if err := cmd.do(e.ctx, http.MethodPost, "rebalance", asked, &done); err != nil {
		return err
	}
	for _, t := range done.Plan {
		fmt.Fprintf(e.out, "%s -> %s  %d sessions\n", t.From, t.To, t.Sessions)
	}
	if len(done.Plan) == 0 {
		fmt.Fprintln(e.out, "nothing to move")
	}
	return failures(done.Failed)
}
