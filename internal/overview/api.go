package overview

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"parley/internal/obs"
	"parley/internal/ops"
	"parley/internal/wire"
)

// waitFor is how long a request for the next look waits at most.
const waitFor = 10 * time.Second

// ServeOps adds /api/v1 to an operations listener. It must be called before the listener runs.
func (o *Overview) ServeOps(l *obs.Ops) {
	l.HandleAPI("GET /api/v1/cluster", o.getCluster)
	l.HandleAPI("GET /api/v1/nodes", o.getNodes)
	l.HandleAPI("GET /api/v1/nodes/{name}", o.getNode)
	l.HandleAPI("GET /api/v1/sessions", o.getSessions)
	l.HandleAPI("GET /api/v1/limits", o.getLimits)
	l.HandleAPI("GET /api/v1/events", o.getEvents)
	l.HandleAPI("GET /api/v1/curves", o.getCurves)
	l.HandleAction("POST /api/v1/nodes/{name}/drain", o.postDrain)
	l.HandleAction("POST /api/v1/nodes/{name}/undrain", o.postUndrain)
	l.HandleAction("POST /api/v1/sessions/kick", o.postKick)
	l.HandleAction("POST /api/v1/rebalance", o.postRebalance)
}

func (o *Overview) getCluster(w http.ResponseWriter, r *http.Request) {
	seq, _ := strconv.ParseUint(r.FormValue("after"), 10, 64)
	ctx, cancel := context.WithTimeout(r.Context(), waitFor)
	defer cancel()
	obs.WriteJSON(w, http.StatusOK, o.After(ctx, seq))
}

func (o *Overview) getNodes(w http.ResponseWriter, r *http.Request) {
	obs.WriteJSON(w, http.StatusOK, map[string]any{"nodes": o.After(r.Context(), 0).Nodes})
}

func (o *Overview) getNode(w http.ResponseWriter, r *http.Request) {
	for _, n := range o.After(r.Context(), 0).Nodes {
		if n.Name == r.PathValue("name") {
			obs.WriteJSON(w, http.StatusOK, n)
			return
		}
	}
	obs.WriteError(w, http.StatusNotFound, "no such node")
}

// sessionPage is a page of the sessions of all nodes.
type sessionPage struct {
	ops.SessionPage
	// Failed are the nodes that did not answer, and why.
	Failed map[string]string `json:"failed,omitempty"`
}

// getSessions lists the sessions of one node or of all, node by node. A cursor is the node's name, a blank, and the node's own
// cursor.
func (o *Overview) getSessions(w http.ResponseWriter, r *http.Request) {
	q := ops.SessionQuery{Limit: ops.MaxSessions}
	if limit, err := strconv.Atoi(r.FormValue("limit")); err == nil && limit > 0 {
		q.Limit = min(limit, ops.MaxSessions)
	}
	if text := r.FormValue("uid"); text != "" {
		uid, err := strconv.ParseInt(text, 10, 32)
		if err != nil || uid <= 0 {
			obs.WriteError(w, http.StatusBadRequest, "malformed uid")
			return
		}
		q.UID = int32(uid)
	}
	only := r.FormValue("node")
	from, inner, _ := strings.Cut(r.FormValue("cursor"), " ")
	page := sessionPage{SessionPage: ops.SessionPage{Sessions: []ops.Session{}}, Failed: map[string]string{}}
	for _, n := range o.d.View().Nodes() { // by name
		if !n.Live || only != "" && n.Name != only || n.Name < from {
			continue
		}
		q.Cursor = ""
		if n.Name == from {
			q.Cursor = inner
		}
		if len(page.Sessions) >= ops.MaxSessions || q.UID == 0 && q.Limit <= 0 {
			page.Cursor = n.Name + " "
			break
		}
		var got ops.SessionPage
		err := o.with(r.Context(), n.Name, func(ctx context.Context, node ops.Node) (err error) {
			got, err = node.Sessions(ctx, q)
			return err
		})
		if err != nil {
			if refusal, ok := errors.AsType[*ops.Error](err); ok && refusal.Code == wire.CodeBadRequest {
				ops.WriteResult(w, nil, err)
				return
			}
			page.Failed[n.Name] = reasonOf(err)
			continue
		}
		page.Sessions = append(page.Sessions, got.Sessions...)
		if got.Cursor != "" {
			page.Cursor = n.Name + " " + got.Cursor
			break
		}
		q.Limit -= len(got.Sessions)
	}
	obs.WriteJSON(w, http.StatusOK, page)
}

func (o *Overview) getLimits(w http.ResponseWriter, r *http.Request) {
	type limits struct {
		Limits   map[string]string  `json:"limits"`
		Refusals map[string]float64 `json:"refusals"`
	}
	c := o.After(r.Context(), 0)
	o.mu.Lock()
	of := o.limits
	o.mu.Unlock()
	nodes := map[string]limits{}
	for _, n := range c.Nodes {
		if of[n.Name] != nil {
			nodes[n.Name] = limits{of[n.Name], n.Refusals}
		}
	}
	obs.WriteJSON(w, http.StatusOK, map[string]any{"nodes": nodes})
}

func (o *Overview) getEvents(w http.ResponseWriter, r *http.Request) {
	seq, _ := strconv.ParseUint(r.FormValue("after"), 10, 64)
	o.mu.Lock()
	list := o.events.after(seq)
	o.mu.Unlock()
	obs.WriteJSON(w, http.StatusOK, map[string]any{"events": list})
}

func (o *Overview) getCurves(w http.ResponseWriter, _ *http.Request) {
	o.mu.Lock()
	curves := o.hour.curves()
	o.mu.Unlock()
	obs.WriteJSON(w, http.StatusOK, curves)
}

// did writes an action and its result to the log and the events.
func (o *Overview) did(r *http.Request, action, node, text string, err error, attrs ...any) {
	remote, _, splitErr := net.SplitHostPort(r.RemoteAddr)
	if splitErr != nil {
		remote = r.RemoteAddr
	}
	result := "ok"
	if err != nil {
		result = reasonOf(err)
		text += ": " + result
	}
	if node != "" {
		attrs = append(attrs, "peer", node)
	}
	o.audit.Info("audit", append([]any{"event", action, "remote", remote, "result", result}, attrs...)...)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events.add(Event{AtMS: time.Now().UnixMilli(), Kind: "action", Node: node, Text: text, Remote: remote})
}

// body decodes what an action was asked with; no body is the zero value.
func body[T any](w http.ResponseWriter, r *http.Request) (v T, ok bool) {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil && !errors.Is(err, io.EOF) {
		obs.WriteError(w, http.StatusBadRequest, "malformed body: "+err.Error())
		return v, false
	}
	return v, true
}

func (o *Overview) postDrain(w http.ResponseWriter, r *http.Request) {
	pace, ok := body[ops.Pace](w, r)
	if !ok {
		return
	}
	name := r.PathValue("name")
	err := o.with(r.Context(), name, func(ctx context.Context, n ops.Node) error { return n.Drain(ctx, pace) })
	o.did(r, "node_drain", name, "drain", err)
	ops.WriteResult(w, struct{}{}, err)
}

func (o *Overview) postUndrain(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	err := o.with(r.Context(), name, func(ctx context.Context, n ops.Node) error { return n.Undrain(ctx) })
	o.did(r, "node_undrain", name, "undrain", err)
	ops.WriteResult(w, struct{}{}, err)
}

// postKick asks every node: a user's devices may be on several.
func (o *Overview) postKick(w http.ResponseWriter, r *http.Request) {
	kick, ok := body[ops.Kick](w, r)
	if !ok {
		return
	}
	if kick.UID <= 0 {
		obs.WriteError(w, http.StatusBadRequest, "a kick needs a uid")
		return
	}
	ended, failed := 0, map[string]string{}
	var last error
	for _, n := range o.d.View().Nodes() {
		if !n.Live {
			continue
		}
		err := o.with(r.Context(), n.Name, func(ctx context.Context, node ops.Node) error {
			n, err := node.Kick(ctx, kick)
			ended += n
			return err
		})
		if err != nil {
			failed[n.Name], last = reasonOf(err), err
		}
	}
	o.did(r, "session_kick", "", fmt.Sprintf("kick of user %d: %d sessions ended", kick.UID, ended), last, "uid", kick.UID, "n", ended)
	obs.WriteJSON(w, http.StatusOK, map[string]any{"ended": ended, "failed": failed})
}

// rebalanceRequest asks for sessions to be spread evenly.
type rebalanceRequest struct {
	ops.Pace
	DryRun bool `json:"dry_run,omitempty"` // only say what would be done
}

func (o *Overview) postRebalance(w http.ResponseWriter, r *http.Request) {
	req, ok := body[rebalanceRequest](w, r)
	if !ok {
		return
	}
	plan := Plan(o.After(r.Context(), 0).Nodes)
	if plan == nil {
		plan = []Transfer{}
	}
	failed := map[string]string{}
	if !req.DryRun && len(plan) > 0 {
		failed = o.rebalance(r.Context(), plan, req.Pace)
		sum := 0
		for _, t := range plan {
			if failed[t.From] == "" {
				sum += t.Sessions
			}
		}
		var err error
		if len(failed) > 0 {
			err = ops.Refusef(wire.CodeUnavailable, "%d nodes refused", len(failed))
		}
		o.did(r, "rebalance", "", fmt.Sprintf("rebalance: %d clients move", sum), err, "n", sum)
	}
	obs.WriteJSON(w, http.StatusOK, map[string]any{"plan": plan, "dry_run": req.DryRun, "failed": failed})
}
