// Package login logs clients in. A login is a short sequence of states, each a function of attempt: admit, identify, claim,
// load, then enter or abandon.
package login

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/ending"
	"parley/internal/legacy"
	"parley/internal/presence"
	"parley/internal/reconcile"
	"parley/internal/session"
	"parley/internal/slots"
	"parley/internal/store"
	"parley/internal/textrate"
	"parley/internal/users"
	"parley/internal/wire"
)

var (
	errDoubt    = errors.New("login: node is not sure of its lease")
	errDraining = errors.New("login: node is draining")
)

// offered is what of the known capabilities this server offers; the rest is ignored.
var offered = []string{wire.CapBatch, wire.CapResume, wire.CapGap, wire.CapGroups, wire.CapRows, wire.CapMarks, wire.CapPresence}

// Config bounds logins.
type Config struct {
	LoginTimeout   time.Duration // from the accept to the login's turn
	RequestTimeout time.Duration // from its turn on
	StockTimeout   time.Duration // silence after which a stock client is dead
	Heartbeat      time.Duration // of native clients that name none
	InFlightTexts  int           // the largest window
}

// Lease is this node's place in the cluster; *membership.Member is one.
type Lease interface {
	// Admits returns the life of the node, and CodeOK if it may log users in.
	Admits() (boot string, code wire.Code)
	Boot() string
	// Lives reports whether a life of the node goes on.
	Lives(boot string) bool
	NoteLogin(token string)
}

// Groups is where sessions get the rows of their groups from; *group.Groups is one.
type Groups interface {
	// Enter puts a session into the index. After an error that waits until its client asks for its threads.
	Enter(ctx context.Context, s *session.Session) error
}

// Client is a connection that logs in.
type Client interface {
	Accepted() time.Time
	Remote() netip.Addr
	// SetWindow bounds the texts that may be unanswered.
	SetWindow(texts int)
	// SetUser gives the connection the limit of its user's texts.
	SetUser(*textrate.User)
	// LoggedIn says that the client has been let in.
	LoggedIn()
}

// Deps is what Logins work with.
type Deps struct {
	Log      *slog.Logger
	Context  context.Context // ends logins
	Node     string
	Store    *store.Store
	Presence *presence.Presence
	Users    *users.Users
	Registry *session.Registry
	Texts    *textrate.Limiter
	Lease    Lease
	Ender    *ending.Ender
	Janitor  *ending.Janitor
	Kicker   *reconcile.Kicker
	// Turns bounds the logins that are being worked on. When users come in faster than they can be served, as after an
	// outage, the others wait here, in order, and not in the run queue of the processors, where all of them would be late.
	// Clients who hung up while they waited count too.
	Turns *slots.Slots
	// Deliver takes pushes to their users; TellElsewhere lets the nodes of a user's other sessions know that they are not
	// alone; Static reports whether a node comes from the configuration.
	Deliver       func([]session.Push, *session.Cork)
	TellElsewhere func([]presence.Location)
	Static        func(node string) bool
	// OtherNode returns the address of another node that takes logins by a transport, "" if there is none.
	OtherNode func(wire.Transport) string
	// Groups puts a session into the index of its groups.
	Groups Groups
	// Wheel and Stock are for the policies of stock clients.
	Wheel *legacy.Wheel
	Stock *legacy.Counters

	// Moved is told of users whose sessions in Redis are others than before.
	Moved func(uid int32)
	// Granted counts logins, Unheard those whose turn did not come in time, Abandoned those undone; Refused those refused.
	Granted, Unheard, Abandoned prometheus.Counter
	Refused                     func(wire.Code) prometheus.Counter
	// Seconds observes granted logins, HandlerSeconds all.
	Seconds, HandlerSeconds prometheus.Histogram
}

// Logins logs clients in. Its methods are safe for concurrent use.
type Logins struct {
	cfg  Config
	d    Deps
	data *dataID
}

// New returns Logins.
func New(cfg Config, d Deps) *Logins {
	return &Logins{cfg: cfg, d: d, data: &dataID{log: d.Log, read: d.Store.DataID}}
}

// Login takes 1005. A login that fails has changed nothing, and its connection closes after the refusal: the stock client
// cannot log in twice on one connection.
func (l *Logins) Login(c Client, s *session.Session, body []byte) {
	if l.d.Turns.Take(l.d.Context, time.Until(c.Accepted().Add(l.cfg.LoginTimeout))) != nil {
		if l.d.Context.Err() == nil {
			l.d.Unheard.Inc()
		}
		l.d.Ender.Finish(s, nil) // its time to log in is over, or too many wait
		return
	}
	ctx, cancel := context.WithTimeout(l.d.Context, l.cfg.RequestTimeout)
	defer cancel()
	began := time.Now()
	defer func() { l.d.HandlerSeconds.Observe(time.Since(began).Seconds()) }()
	a := &attempt{Logins: l, client: c, session: s}
	err := a.takePlace(ctx, body)
	if err == nil {
		err = a.enter(ctx)
	}
	if err == nil {
		l.d.Granted.Inc()
		l.d.Seconds.Observe(time.Since(began).Seconds())
		return
	}
	a.refuse(err)
}

// attempt is one login on its way.
type attempt struct {
	*Logins
	client  Client
	session *session.Session

	// Set by admit.
	req   *wire.LoginRequest
	id    session.Identity
	grant grant
	claim presence.Claim

	known   presence.Prelogin // what Redis knew of the user
	lists   []byte
	reply   []byte // 1006
	claimed *presence.Claimed
}

// takePlace does most of a login, until the session has its place in the cluster, and gives the turn back. What comes after
// may wait for another node.
func (a *attempt) takePlace(ctx context.Context, body []byte) error {
	defer a.d.Turns.Give()
	err := a.admit(ctx, body)
	if err != nil {
		return err
	}
	if a.req.Native() {
		err = a.claimIfCached(ctx)
	} else {
		err = a.look(ctx)
	}
	if err != nil {
		return err
	}
	if err := a.load(ctx); err != nil {
		if a.claimed != nil {
			err = errors.Join(err, a.Abandon(ctx, *a.claimed, a.d.Ender.Location(a.session)))
		}
		return err
	}
	if a.claimed != nil {
		return nil
	}
	return a.claimPlace(ctx)
}

// admit reads the request and decides what it is granted, if the node may log users in.
func (a *attempt) admit(ctx context.Context, body []byte) error {
	if a.session.State() == session.Dead {
		return session.ErrClosed
	}
	req, err := wire.DecodeLogin(body)
	if err != nil {
		return err
	}
	boot, code := a.d.Lease.Admits()
	switch code {
	case wire.CodeOK:
	case wire.CodeDraining:
		return wire.Refuse(code, errDraining)
	default:
		return wire.Refuse(code, errDoubt)
	}
	now := time.Now()
	a.req = req
	a.id = session.Identity{
		UID: req.UID, Device: req.Device, SID: session.NewSID(now), Native: req.Native(), Boot: boot, Began: now, Silent: a.cfg.StockTimeout,
	}
	a.grant = grant{req: req, sid: a.id.SID, node: a.d.Node, window: a.cfg.InFlightTexts}
	if req.Native() {
		a.grantNative(ctx)
	}
	a.client.SetWindow(a.grant.window)
	a.claim = presence.Claim{
		UID: req.UID, Device: req.Device, Token: req.Token, SID: a.id.SID.String(),
		Node: a.d.Node, Boot: boot, NextResume: a.grant.resume,
	}
	if req.Resume != "" {
		a.claim.Token, a.claim.Resume = req.Resume, true
	}
	return nil
}

// grantNative adds what a native client is granted.
func (a *attempt) grantNative(ctx context.Context) {
	g := &a.grant
	g.data = a.data.of(ctx, a.id.Boot)
	g.caps = intersect(a.req.Caps, offered)
	a.id.Gap = slices.Contains(g.caps, wire.CapGap)
	if !a.id.Gap {
		g.caps = slices.DeleteFunc(g.caps, func(c string) bool { return wire.FeatureOf(c) != 0 })
	}
	for _, c := range g.caps {
		a.id.Features |= wire.FeatureOf(c)
	}
	g.heartbeat = a.cfg.Heartbeat
	if a.req.HeartbeatS > 0 {
		g.heartbeat = time.Duration(a.req.HeartbeatS) * time.Second
	}
	a.id.Silent = g.heartbeat * 5 / 2
	if a.req.Window > 0 {
		g.window = min(a.req.Window, g.window)
	}
	if slices.Contains(g.caps, wire.CapResume) {
		g.resume, g.other = presence.NewToken(), a.d.OtherNode(a.session.Transport())
	}
}

// identify makes the connection a session that a login claims a place for: a login that replaces it must find it from the claim
// on.
func (a *attempt) identify() error {
	if !a.session.Identify(a.id) {
		return session.ErrClosed
	}
	a.d.Registry.Add(a.session)
	a.d.Ender.EndSilent(a.session, time.Now())
	if !a.d.Lease.Lives(a.id.Boot) {
		// Fenced off since the login was admitted: the sessions of that life may have been ended just before this one came.
		return wire.Refuse(wire.CodeUnavailable, errDoubt)
	}
	return nil
}

// look reads what Redis knows of a stock client's user. It claims nothing yet: the session has to know the user's friends
// before it can be found.
func (a *attempt) look(ctx context.Context) (err error) {
	a.known, err = a.d.Presence.Logins.Prelogin(ctx, a.req.UID, a.req.Token)
	if err == nil && !a.known.TokenOK {
		err = presence.ErrTokenInvalid
	}
	return a.refused(err)
}

// claimIfCached claims the place of a native client's session if Redis knows the user's profile and lists.
func (a *attempt) claimIfCached(ctx context.Context) (err error) {
	if err = a.identify(); err != nil {
		return err
	}
	a.known, a.claimed, err = a.d.Presence.Logins.ClaimCached(ctx, a.claim)
	return a.refused(err)
}

// load adds the user's data, and the 1006 that is made of it.
func (a *attempt) load(ctx context.Context) error {
	profile, lists, err := a.d.Users.ForLogin(ctx, a.req.UID, a.known)
	if err != nil {
		return err
	}
	a.lists = lists
	a.reply, err = a.grant.frame(profile, lists)
	return err
}

// claimPlace claims the session's place, for a user whose data has been loaded.
func (a *attempt) claimPlace(ctx context.Context) error {
	if !a.req.Native() {
		var err error
		if a.id.Stock, err = a.newStock(ctx); err != nil {
			return err
		}
		if err := a.identify(); err != nil {
			return err
		}
	}
	if a.session.State() == session.Dead {
		return session.ErrClosed
	}
	claimed, err := a.d.Presence.Logins.Claim(ctx, a.claim)
	if err != nil {
		return a.refused(err)
	}
	a.claimed = &claimed
	return nil
}

// newStock returns the policy for a client that did not announce itself.
func (a *attempt) newStock(ctx context.Context) (session.Stock, error) {
	friends, err := users.FriendsOf(a.lists)
	if err != nil {
		a.d.Log.Error("friends of a stock client not read", "err", err)
		friends = make(map[int32]struct{})
	}
	stored, err := a.d.Store.Threads.LastSeqs(ctx, a.req.UID, friends)
	if err != nil {
		return nil, err
	}
	return legacy.New(a.session, a.d.Wheel, friends, stored, a.d.Stock), nil
}

// refused says what a failed claim is for the client. Whatever else went wrong, the end of the session takes it out of Redis
// again, in case it got there.
func (a *attempt) refused(err error) error {
	switch {
	case errors.Is(err, presence.ErrTokenInvalid):
		err = wire.Refuse(wire.CodeTokenInvalid, err)
	case errors.Is(err, presence.ErrTooManyDevices):
		err = wire.Refuse(wire.CodeNotAllowed, err)
	default:
		return err
	}
	a.d.Registry.Remove(a.session) // it is not in Redis: a stranger's guess costs no release
	return err
}

// enter ends the session that had the place, and makes this one live.
func (a *attempt) enter(ctx context.Context) error {
	s := a.session
	if s.State() == session.Dead {
		if err := a.Abandon(ctx, *a.claimed, a.d.Ender.Location(s)); err != nil {
			return err
		}
		return session.ErrClosed
	}
	a.d.Moved(s.UID())
	user := a.d.Texts.Join(s.UID(), s.SID(), a.claimed, time.Now())
	a.client.SetUser(user)
	s.SetJoined(true)
	texts, err := a.supersede(ctx, *a.claimed)
	if err != nil {
		return err
	}
	if texts != nil {
		a.d.Texts.Receive(user, a.claimed, *texts, time.Now())
	}

	if err := a.d.Groups.Enter(ctx, s); err != nil {
		a.d.Log.Warn("groups not read at a login", "sid", s.SID(), "err", err)
	}

	// 1006 is the first frame; only then is the session found by pushes.
	_ = s.Reply(a.reply) // a dead session shows in Activate
	switch a.d.Registry.Activate(s) {
	case session.Superseded:
		a.d.Ender.Finish(s, ending.ReplacedFrame(a.req.UID))
	case session.Died:
		// The close came before the claim, so its release may have come first too. One that came after joined released again.
		a.d.Ender.Leave(s)
	case session.Activated:
		a.client.LoggedIn()
		a.d.Lease.NoteLogin(a.req.Token)
		a.d.Log.Debug("login", "sid", s.SID(), "remote", a.client.Remote(), "native", s.Native())
		if a.mayHaveMissed() {
			a.CatchUp(ctx, s, a.known.ListsVersion, a.lists)
		}
	}
	return nil
}

// mayHaveMissed reports whether the user's lists may have changed without the live session being told. A change before the
// claim is in the version that the claim read; the push of a later one looks for the user after the claim, and finds this
// session, which remembers it if it was still pending, or one that this login replaced or stands beside.
func (a *attempt) mayHaveMissed() bool {
	return a.claimed.ListsVersion != a.known.ListsVersion || a.session.Missed() || a.claimed.Old != nil || len(a.claimed.Others) > 0
}

// refuse answers a login that failed, and ends its connection.
func (a *attempt) refuse(err error) {
	if errors.Is(err, session.ErrClosed) {
		a.d.Ender.Finish(a.session, nil) // nobody is there to be told
		return
	}
	code := wire.CodeOr(err, wire.CodeUnavailable)
	a.d.Refused(code).Inc()
	if code == wire.CodeInternal || code == wire.CodeUnavailable {
		a.d.Log.Warn("login failed", "remote", a.client.Remote(), "code", int(code), "err", err)
	} else {
		a.d.Log.Debug("login refused", "remote", a.client.Remote(), "code", int(code), "err", err)
	}
	retry := 0
	if code == wire.CodeUnavailable || code == wire.CodeBusy {
		retry = int(ending.RetryAfter.Milliseconds())
	}
	a.d.Ender.Finish(a.session, wire.AppendCode(nil, wire.MsgLoginRsp, code, retry))
}
