package overview

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"parley/internal/obs"
	"parley/internal/ops"
	"parley/internal/presence"
)

func TestAQuantileIsOfWhatWasAddedSince(t *testing.T) {
	before := ops.Histogram{Bounds: []float64{1, 2, 4}, Counts: []uint64{100, 100, 100, 100}}
	now := ops.Histogram{Bounds: []float64{1, 2, 4}, Counts: []uint64{100, 150, 200, 200}}
	require.InDelta(t, 2, now.Quantile(0.5, before), 0.01)
	require.InDelta(t, 3, now.Quantile(0.75, before), 0.01)
	require.InDelta(t, 0.5, before.Quantile(0.5, ops.Histogram{}), 0.01)
	require.Zero(t, before.Quantile(0.5, before))
	require.Zero(t, ops.Histogram{}.Quantile(0.5, before))
	over := ops.Histogram{Bounds: []float64{1}, Counts: []uint64{0, 10}}
	require.InDelta(t, 1, over.Quantile(0.99, ops.Histogram{}), 0.01, "past the last bound")
}

func TestAPlanLevelsTheNodesThatTakeLogins(t *testing.T) {
	node := func(name string, sessions int) Node {
		return Node{Name: name, State: ops.StateOpen, Sessions: sessions, Native: sessions}
	}
	require.Empty(t, Plan(nil))
	require.Empty(t, Plan([]Node{node("a", 100)}))
	require.Empty(t, Plan([]Node{node("a", 100), node("b", 98)}), "near enough")
	require.Equal(t, []Transfer{{"a", "c", 40}, {"b", "c", 40}}, Plan([]Node{node("a", 120), node("b", 120), node("c", 0)}))
	require.Equal(t, []Transfer{{"a", "c", 33}, {"a", "b", 33}}, Plan([]Node{node("a", 100), node("b", 0), node("c", 0)}))
	drained, stock := node("c", 0), node("d", 100)
	drained.State, stock.Native = ops.StateDrained, 10
	require.Equal(t, []Transfer{{"d", "a", 10}}, Plan([]Node{node("a", 0), drained, stock}), "stock clients stay; a drained node gets none")
}

func TestTheLastHourIsBounded(t *testing.T) {
	var h hour
	now := time.Unix(1_000_000, 0)
	for i := range 3 * 3600 {
		at := now.Add(time.Duration(i) * time.Second)
		h.add(&Cluster{AtMS: at.UnixMilli(), Sessions: i, Nodes: []Node{{Name: "a", State: ops.StateOpen}, {Name: "b", State: ops.StateSilent}}}, at)
	}
	c := h.curves()
	require.Len(t, c.AtMS, points)
	require.InDelta(t, time.Hour.Milliseconds(), c.AtMS[points-1]-c.AtMS[0], 2*float64(step.Milliseconds()))
	require.Len(t, c.Cluster["sessions"], points)
	require.Contains(t, c.Nodes, "a")
	require.NotContains(t, c.Nodes, "b", "it did not answer")

	var e events
	for range 3 * maxEvents {
		e.add(Event{})
	}
	require.Len(t, e.after(0), maxEvents)
	require.Len(t, e.after(3*maxEvents-1), 1)
	require.Len(t, e.after(1<<40), maxEvents, "a number of another life")
}

// fakeNode is a chat node.
type fakeNode struct {
	mu      sync.Mutex
	figures ops.Figures
	err     error
	asked   []string
}

func (n *fakeNode) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = err
}

func (n *fakeNode) did(what string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, what)
	return n.err
}

func (n *fakeNode) Figures(context.Context) (ops.Figures, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.figures, n.err
}

func (n *fakeNode) Sessions(_ context.Context, q ops.SessionQuery) (ops.SessionPage, error) {
	page := ops.SessionPage{Sessions: []ops.Session{{Node: n.figures.Node, UID: 1}, {Node: n.figures.Node, UID: 2}}}
	if q.Cursor == "" && q.Limit < 2 {
		return ops.SessionPage{Sessions: page.Sessions[:1], Cursor: "1"}, n.did("sessions")
	}
	if q.Cursor == "1" {
		page.Sessions = page.Sessions[1:]
	}
	return page, n.did("sessions")
}
func (n *fakeNode) Drain(context.Context, ops.Pace) error { return n.did("drain") }
func (n *fakeNode) Undrain(context.Context) error         { return n.did("undrain") }
func (n *fakeNode) Move(context.Context, ops.Move) error  { return n.did("move") }
func (n *fakeNode) Kick(context.Context, ops.Kick) (int, error) {
	return 1, n.did("kick")
}

// api is the operations listener of an overview of nodes.
type api struct {
	*Overview
	url string
	log bytes.Buffer
}

func serve(t *testing.T, token string, nodes map[string]*fakeNode) *api {
	t.Helper()
	a := &api{}
	log := slog.New(slog.NewJSONHandler(&a.log, nil))
	a.Overview = New(Deps{Log: log, View: viewOf(t, nodes), Dial: func(addr string) (ops.Node, func(), error) {
		n := nodes[strings.TrimSuffix(addr, ":1")]
		if n == nil {
			return nil, nil, errors.New("unknown address")
		}
		return n, func() {}, nil
	}})
	l, err := obs.ListenOps("127.0.0.1:0", slog.New(slog.DiscardHandler), prometheus.NewRegistry(), nil)
	require.NoError(t, err)
	l.SetToken(token)
	a.ServeOps(l)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = l.Run(ctx) })
	wg.Go(func() { a.Run(ctx) })
	t.Cleanup(func() { stop(); wg.Wait() })
	a.url = "http://" + l.Addr()
	return a
}

func (a *api) do(t *testing.T, method, path, sent string, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, a.url+path, strings.NewReader(sent))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	rsp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer rsp.Body.Close()
	data, err := io.ReadAll(rsp.Body)
	require.NoError(t, err)
	return rsp.StatusCode, string(data)
}

func twoNodes() map[string]*fakeNode {
	return map[string]*fakeNode{
		"chat1": {figures: ops.Figures{Node: "chat1", State: ops.StateOpen, Sessions: 30, Native: 30, Limits: map[string]string{"TextRate": "50"}}},
		"chat2": {figures: ops.Figures{Node: "chat2", State: ops.StateOpen, Sessions: 10, Native: 10}},
	}
}

func TestAnActionNeedsAHeaderThatNoOtherPageCanSend(t *testing.T) {
	nodes := twoNodes()
	a := serve(t, "", nodes)
	const drain = "/api/v1/nodes/chat1/drain"
	for name, header := range map[string][]string{
		"none":        {},
		"origin":      {obs.ActionHeader, "1", "Origin", "https://evil.example"},
		"null origin": {obs.ActionHeader, "1", "Origin", "null"},
		"site":        {obs.ActionHeader, "1", "Sec-Fetch-Site", "cross-site"},
		"other port":  {obs.ActionHeader, "1", "Sec-Fetch-Site", "same-site"},
		"rebinding":   {obs.ActionHeader, "1", "Host", "evil.example", "Origin", "http://evil.example"},
	} {
		code, _ := a.do(t, "POST", drain, "", header...)
		require.Equal(t, http.StatusForbidden, code, name)
	}
	code, _ := a.do(t, "GET", "/api/v1/cluster", "", "Host", "evil.example")
	require.Equal(t, http.StatusForbidden, code, "nor can it read, by a name that leads here")
	code, _ = a.do(t, "GET", drain, "", obs.ActionHeader, "1")
	require.Equal(t, http.StatusMethodNotAllowed, code)
	require.Empty(t, nodes["chat1"].asked)

	code, _ = a.do(t, "POST", drain, `{"over_ms":20000}`, obs.ActionHeader, "1", "Origin", a.url, "Sec-Fetch-Site", "same-origin")
	require.Equal(t, http.StatusOK, code)
	code, _ = a.do(t, "POST", drain, ``, obs.ActionHeader, "1")
	require.Equal(t, http.StatusOK, code, "no browser")
	require.Equal(t, []string{"drain", "drain"}, nodes["chat1"].asked)
	code, text := a.do(t, "POST", drain, `{"over_sm":1}`, obs.ActionHeader, "1")
	require.Equal(t, http.StatusBadRequest, code, text)
}

func TestATokenIsNeededOnceItIsSet(t *testing.T) {
	const token = "a token of 16 bytes"
	a := serve(t, token, twoNodes())
	for _, header := range [][]string{{}, {"Authorization", "Bearer wrong"}, {"Authorization", token}, {"Authorization", "Basic " + token}} {
		code, _ := a.do(t, "GET", "/api/v1/cluster", "", header...)
		require.Equal(t, http.StatusUnauthorized, code)
		code, _ = a.do(t, "POST", "/api/v1/sessions/kick", `{"uid":1}`, append(header, obs.ActionHeader, "1")...)
		require.Equal(t, http.StatusUnauthorized, code)
	}
	code, _ := a.do(t, "GET", "/api/v1/cluster", "", "Authorization", "Bearer "+token, "Host", "ops.example.com")
	require.Equal(t, http.StatusOK, code)
}

func TestActionsAreAuditedAndAppearAsEvents(t *testing.T) {
	nodes := twoNodes()
	a := serve(t, "", nodes)
	code, text := a.do(t, "POST", "/api/v1/sessions/kick", `{"uid":7}`, obs.ActionHeader, "1")
	require.Equal(t, http.StatusOK, code)
	require.JSONEq(t, `{"ended":2,"failed":{}}`, text)
	nodes["chat2"].fail(ops.Refusef(2002, "no other node takes logins"))
	code, text = a.do(t, "POST", "/api/v1/nodes/chat2/drain", "", obs.ActionHeader, "1")
	require.Equal(t, http.StatusConflict, code)
	require.JSONEq(t, `{"error":"no other node takes logins"}`, text)
	code, _ = a.do(t, "POST", "/api/v1/nodes/chat9/undrain", "", obs.ActionHeader, "1")
	require.Equal(t, http.StatusNotFound, code)

	_, text = a.do(t, "GET", "/api/v1/events", "")
	var got struct{ Events []Event }
	require.NoError(t, json.Unmarshal([]byte(text), &got))
	var actions []string
	for _, e := range got.Events {
		if e.Kind == "action" {
			actions = append(actions, e.Text)
			require.Equal(t, "127.0.0.1", e.Remote)
		}
	}
	require.Equal(t, []string{"kick of user 7: 2 sessions ended", "drain: no other node takes logins", `undrain: no node "chat9" is alive`}, actions)
	require.Equal(t, 3, strings.Count(a.log.String(), `"audit":true`))
	require.Contains(t, a.log.String(), `"event":"session_kick","remote":"127.0.0.1","result":"ok","uid":7`)
}

func TestARebalanceIsFirstOnlyPlanned(t *testing.T) {
	nodes := twoNodes()
	a := serve(t, "", nodes)
	plan := `"plan":[{"from":"chat1","to":"chat2","sessions":10}]`
	code, text := a.do(t, "POST", "/api/v1/rebalance", `{"dry_run":true}`, obs.ActionHeader, "1")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, text, plan)
	require.Empty(t, nodes["chat1"].asked)
	_, text = a.do(t, "POST", "/api/v1/rebalance", `{}`, obs.ActionHeader, "1")
	require.Contains(t, text, plan)
	require.Equal(t, []string{"move"}, nodes["chat1"].asked)
}

func TestSessionsOfAllNodesComePageByPage(t *testing.T) {
	a := serve(t, "", twoNodes())
	var got []string
	for cursor, limit := "", "1"; ; {
		_, text := a.do(t, "GET", "/api/v1/sessions?limit="+limit+"&cursor="+strings.ReplaceAll(cursor, " ", "%20"), "")
		var page sessionPage
		require.NoError(t, json.Unmarshal([]byte(text), &page))
		for _, s := range page.Sessions {
			got = append(got, s.Node)
		}
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	require.Equal(t, []string{"chat1", "chat1", "chat2", "chat2"}, got)
}

func TestWhatIsShownIsNeverOlderThanTwoSeconds(t *testing.T) {
	nodes := twoNodes()
	a := serve(t, "", nodes)
	c := a.After(t.Context(), 0)
	require.Equal(t, 40, c.Sessions)
	nodes["chat2"].fail(context.DeadlineExceeded)
	began := time.Now()
	for {
		c = a.After(t.Context(), c.Seq)
		if c.Nodes[1].State == ops.StateSilent {
			break
		}
		require.Less(t, time.Since(began), 3*2*time.Second)
	}
	require.Equal(t, 30, c.Sessions, "a node that does not answer counts in no sum")
	require.Equal(t, 10, c.Nodes[1].Sessions, "its last figures")
	require.NotZero(t, c.Nodes[1].HeardMS)
	_, text := a.do(t, "GET", "/api/v1/events", "")
	require.Contains(t, text, `"kind":"silent","node":"chat2"`)
	_, text = a.do(t, "GET", "/api/v1/limits", "")
	require.Contains(t, text, `"TextRate":"50"`)
}

// viewOf returns leases of the nodes, at the address NAME:1.
func viewOf(t *testing.T, nodes map[string]*fakeNode) func() *presence.View {
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), Protocol: 2, DisableIdentity: true})
	p := presence.New(rdb, presence.Options{Timeout: time.Minute})
	t.Cleanup(func() { p.Close(); rdb.Close() })
	for name := range nodes {
		require.NoError(t, p.Leases.Take(t.Context(), presence.Lease{Name: name, Boot: "boot", RPCAddr: name + ":1"}, ""))
		require.NoError(t, p.Leases.ReportLoad(t.Context(), name, 0, nil))
	}
	_, err := p.Nodes.Read(t.Context())
	require.NoError(t, err)
	return p.Nodes.View
}

// The page of operators has these texts in its other languages too, by what they are in English.
func TestThePageKnowsWhatEventsSay(t *testing.T) {
	page, err := os.ReadFile("../../web/dashboard/en.js")
	require.NoError(t, err)
	states := []string{"", ops.StateOpen, ops.StateDraining, ops.StateDrained, ops.StateSilent, ops.StateDead}
	for _, before := range states {
		for _, now := range states[1:] {
			require.Contains(t, string(page), ": '"+describe(before, now)+"'")
		}
	}
}
