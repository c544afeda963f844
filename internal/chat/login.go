package chat

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"time"

	"parley/internal/ending"
	"parley/internal/presence"
	"parley/internal/session"
	"parley/internal/wire"
)

var (
	errDoubt    = errors.New("chat: node is not sure of its lease")
	errDraining = errors.New("chat: node is draining")
)

// granted is what of the known capabilities this server offers; the rest is ignored.
var granted = []string{wire.CapBatch, wire.CapResume, wire.CapGap}

// login takes 1005. A login that fails has changed nothing, and its connection closes after the refusal: the stock client
// cannot log in twice on one connection.
func (s *Server) login(c *conn, body []byte) {
	if s.turns.Take(s.ctx, time.Until(time.UnixMilli(c.accepted).Add(s.cfg.Limits.LoginTimeout))) != nil {
		if s.ctx.Err() == nil {
			s.metrics.loginsUnheard.Inc()
		}
		c.finish(nil) // its time to log in is over, or too many wait
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Limits.RequestTimeout)
	defer cancel()
	began := time.Now()
	defer func() { s.metrics.handlerSeconds.Observe(time.Since(began).Seconds()) }()
	p, err := s.claimInTurn(ctx, c, body)
	if err == nil {
		err = s.enter(ctx, c, p)
	}
	if err == nil {
		s.metrics.logins.Inc()
		s.metrics.loginSeconds.Observe(time.Since(began).Seconds())
		return
	}
	if errors.Is(err, session.ErrClosed) {
		c.finish(nil) // nobody is there to be told
		return
	}
	code := wire.CodeOr(err, wire.CodeUnavailable)
	s.metrics.loginsRefused(code).Inc()
	if code == wire.CodeInternal || code == wire.CodeUnavailable {
		s.log.Warn("login failed", "remote", c.remote(), "code", int(code), "err", err)
	} else {
		s.log.Debug("login refused", "remote", c.remote(), "code", int(code), "err", err)
	}
	retry := 0
	if code == wire.CodeUnavailable || code == wire.CodeBusy {
		retry = retryMS
	}
	c.finish(wire.AppendCode(nil, wire.MsgLoginRsp, code, retry))
}

// place is a login that has its place in the cluster.
type place struct {
	req     *wire.LoginRequest
	known   presence.Prelogin
	lists   []byte
	reply   []byte // 1006
	claimed *presence.Claimed
}

// mayHaveMissed reports whether the user's lists may have changed without the live session being told. A change before the
// claim is in the version that the claim read; the push of a later one looks for the user after the claim, and finds this
// session, which remembers it if it was still pending, or one that this login replaced or stands beside.
func (p *place) mayHaveMissed(c *conn) bool {
	return p.claimed.ListsVersion != p.known.ListsVersion || c.Missed() || p.claimed.Old != nil || len(p.claimed.Others) > 0
}

// claimInTurn does most of a login, and gives the turn back. What comes after may wait for another node.
func (s *Server) claimInTurn(ctx context.Context, c *conn, body []byte) (*place, error) {
	defer s.turns.Give()
	if c.State() == session.Dead {
		return nil, session.ErrClosed
	}
	req, err := wire.DecodeLogin(body)
	if err != nil {
		return nil, err
	}
	boot, code := s.lease.Admits()
	switch code {
	case wire.CodeOK:
	case wire.CodeDraining:
		return nil, wire.Refuse(code, errDraining)
	default:
		return nil, wire.Refuse(code, errDoubt)
	}

	id := session.Identity{
		UID: req.UID, Device: req.Device, SID: session.NewSID(time.Now()), Native: req.Native(), Boot: boot, Began: time.Now(),
		Silent: s.cfg.Limits.StockTimeout,
	}
	grant := loginGrant{req: req, sid: id.SID, node: s.cfg.SelfServer.Name, window: s.cfg.Limits.InFlightTexts}
	if req.Native() {
		grant.data = s.data.of(ctx, boot)
		grant.caps = intersect(req.Caps, granted)
		id.Gap = slices.Contains(grant.caps, wire.CapGap)
		grant.heartbeat = s.cfg.Limits.Heartbeat
		if req.HeartbeatS > 0 {
			grant.heartbeat = time.Duration(req.HeartbeatS) * time.Second
		}
		id.Silent = grant.heartbeat * 5 / 2
		if req.Window > 0 {
			grant.window = min(req.Window, grant.window)
		}
		if slices.Contains(grant.caps, wire.CapResume) {
			grant.resume = newTicket()
		}
	}
	c.window = int32(grant.window)
	claim := presence.Claim{
		UID: req.UID, Device: req.Device, Token: req.Token, SID: id.SID.String(),
		Node: s.cfg.SelfServer.Name, Boot: boot, NextResume: grant.resume,
	}
	if req.Resume != "" {
		claim.Token, claim.Resume = req.Resume, true
	}

	p := &place{req: req}
	if req.Native() {
		if err := s.await(c, id); err != nil {
			return nil, err
		}
		p.known, p.claimed, err = s.presence.ClaimCached(ctx, claim)
	} else {
		p.known, err = s.presence.Prelogin(ctx, req.UID, req.Token)
		if err == nil && !p.known.TokenOK {
			err = presence.ErrTokenInvalid
		}
	}
	if err != nil {
		return nil, s.claimFailed(c, err)
	}
	if err := s.fill(ctx, p, &grant); err != nil {
		if p.claimed != nil {
			err = errors.Join(err, s.abandon(ctx, *p.claimed, s.ender.Location(&c.Session)))
		}
		return nil, err
	}
	if p.claimed != nil {
		return p, nil
	}
	if !req.Native() {
		id.Stock = s.newStock(&c.Session, p.lists) // it has to know the friends
		if err := s.await(c, id); err != nil {
			return nil, err
		}
	}
	if c.State() == session.Dead {
		return nil, session.ErrClosed
	}
	claimed, err := s.presence.Claim(ctx, claim)
	if err != nil {
		return nil, s.claimFailed(c, err)
	}
	p.claimed = &claimed
	return p, nil
}

// fill adds the user's data, and the 1006 that is made of it.
func (s *Server) fill(ctx context.Context, p *place, grant *loginGrant) error {
	profile, lists, err := s.users.ForLogin(ctx, p.req.UID, p.known)
	if err != nil {
		return err
	}
	p.lists = lists
	p.reply, err = grant.frame(profile, lists)
	return err
}

// await makes the connection a session that a login claims a place for: whoever replaces it must find it from the claim
// on.
func (s *Server) await(c *conn, id session.Identity) error {
	if !c.Identify(id) {
		return session.ErrClosed
	}
	s.registry.Add(&c.Session)
	s.ender.EndSilent(&c.Session, time.Now())
	if !s.lease.Lives(c.Boot()) {
		// Fenced off since the login was admitted: the sessions of that life may have been ended just before this one came.
		return wire.Refuse(wire.CodeUnavailable, errDoubt)
	}
	return nil
}

// claimFailed says what a failed claim is for the client. Whatever else went wrong, finish takes the session out of Redis
// again, in case it got there.
func (s *Server) claimFailed(c *conn, err error) error {
	switch {
	case errors.Is(err, presence.ErrTokenInvalid):
		err = wire.Refuse(wire.CodeTokenInvalid, err)
	case errors.Is(err, presence.ErrTooManyDevices):
		err = wire.Refuse(wire.CodeNotAllowed, err)
	default:
		return err
	}
	s.registry.Remove(&c.Session) // it is not in Redis: a stranger's guess costs no release
	return err
}

// enter ends the session that had the place, and makes this one live.
func (s *Server) enter(ctx context.Context, c *conn, p *place) error {
	if c.State() == session.Dead {
		if err := s.abandon(ctx, *p.claimed, s.ender.Location(&c.Session)); err != nil {
			return err
		}
		return session.ErrClosed
	}
	c.texter = s.texts.Join(c.UID(), c.SID(), p.claimed, time.Now())
	c.SetJoined(true)
	texts, err := s.supersede(ctx, *p.claimed)
	if err != nil {
		return err
	}
	if texts != nil {
		s.texts.Receive(c.texter, p.claimed, *texts, time.Now())
	}

	// 1006 is the first frame; only then is the session found by pushes.
	_ = c.Reply(p.reply) // a dead session shows in Activate
	switch s.registry.Activate(&c.Session) {
	case session.Superseded:
		c.finish(ending.ReplacedFrame(p.req.UID))
	case session.Died:
		// The close came before the claim, so its release may have come first too. One that came after joined released again.
		s.ender.Leave(&c.Session)
	case session.Activated:
		s.noteLogin(c, p.req.Token)
		if p.mayHaveMissed(c) {
			s.catchUpLists(ctx, c, p.known.ListsVersion, p.lists)
		}
	}
	return nil
}

// abandon undoes a claim whose client has hung up meanwhile. The session it displaced may be a later login of the same
// client, which did not wait: that one keeps its place, unless yet another has taken it.
func (s *Server) abandon(ctx context.Context, claimed presence.Claimed, mine presence.Location) error {
	if err := s.presence.Release(ctx, []presence.Location{mine}); err != nil {
		s.janitor.Release(mine)
		_, err := s.supersede(ctx, claimed)
		return err
	}
	old := claimed.Old
	if old == nil {
		return nil
	}
	alive, err := s.presence.Alive(ctx, old.Node, old.Boot)
	if err != nil || !alive && !s.delivery.Peers.Static(old.Node) {
		return err
	}
	lost, err := s.presence.Restore(ctx, []presence.Location{*old})
	if err != nil || len(lost) > 0 {
		_, err := s.supersede(ctx, claimed)
		return err
	}
	s.metrics.abandoned.Inc()
	// Pushes have gone to the place of this login meanwhile.
	s.delivery.Router.Deliver([]session.Push{{To: old.UID, ID: wire.MsgGap}}, nil)
	return nil
}

// supersede ends the session that this login replaces, before the client learns that it is logged in. It returns the
// number of texts that the session's node hands over; nil if it is this node, or keeps them.
func (s *Server) supersede(ctx context.Context, claimed presence.Claimed) (texts *int32, err error) {
	s.delivery.TellElsewhere(claimed.Others)
	old := claimed.Old
	if old == nil {
		return nil, nil
	}
	if old.Node == s.cfg.SelfServer.Name && old.Boot == s.lease.Boot() {
		s.ender.Replace(old.UID, old.SID)
		return nil, nil
	}
	return s.kicker.Move(ctx, *old)
}

// noteLogin makes the session count.
func (s *Server) noteLogin(c *conn, token string) {
	s.noteLoggedIn(c)
	s.lease.NoteLogin(token)
	s.log.Debug("login", "sid", c.SID(), "remote", c.remote(), "native", c.Native())
}

// loginGrant is what 1006 says beside the user's data.
type loginGrant struct {
	req       *wire.LoginRequest
	sid       session.SID
	node      string
	caps      []string
	resume    string
	window    int
	heartbeat time.Duration
	data      string // id of the data; "" if not known
}

// frame builds 1006. profile is a JSON object, lists the members apply_list and friend_list without braces.
func (g *loginGrant) frame(profile, lists []byte) ([]byte, error) {
	b := make([]byte, 0, len(profile)+len(lists)+512)
	b = append(b, `{"error":0,`...)
	b = append(b, profile[1:len(profile)-1]...)
	if g.req.Token != "" {
		b = wire.AppendString(append(b, `,"token":`...), g.req.Token)
	}
	if g.req.Native() {
		b = append(b, `,"caps":[`...)
		for i, cap := range g.caps {
			if i > 0 {
				b = append(b, ',')
			}
			b = wire.AppendString(b, cap)
		}
		b = strconv.AppendInt(append(b, `],"window":`...), int64(g.window), 10)
		b = strconv.AppendInt(append(b, `,"heartbeat_s":`...), int64(g.heartbeat/time.Second), 10)
		b = wire.AppendString(append(b, `,"node":`...), g.node)
		b = wire.AppendString(append(b, `,"device":`...), g.req.Device)
		b = wire.AppendString(append(b, `,"sid":`...), g.sid.String())
		if g.data != "" {
			b = wire.AppendString(append(b, `,"data":`...), g.data)
		}
		if g.resume != "" {
			b = wire.AppendString(append(b, `,"resume":`...), g.resume)
		}
	}
	b = append(append(append(b, ','), lists...), '}')
	return wire.AppendFrame(make([]byte, 0, len(b)+wire.HeaderLen), wire.MsgLoginRsp, b)
}

func intersect(asked, offered []string) []string {
	out := make([]string, 0, len(offered))
	for _, o := range offered {
		if slices.Contains(asked, o) {
			out = append(out, o)
		}
	}
	return out
}

// newTicket returns 32 random bytes, as a token is made.
func newTicket() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}
