package status

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"golang.org/x/time/rate"

	"parley/internal/obs"
	"parley/internal/presence"
	"parley/internal/wire"
	"parley/kitex_gen/message"
)

// MaxBatch is the most users of one GetChatServers call: a reply of about 150 KB.
const MaxBatch = 1000

// service answers StatusService. A Go error would tell the caller that the call itself failed, so every answer carries a
// code instead.
type service struct {
	log     *slog.Logger
	noise   *rate.Limiter // of failures that callers can repeat at will
	metrics *metrics
	nodes   *presence.Nodes
	tokens  *presence.Tokens
}

var _ message.StatusService = (*service)(nil)

func newService(log *slog.Logger, m *metrics, p *presence.Presence) *service {
	return &service{log: log, noise: rate.NewLimiter(rate.Every(time.Second), 5), metrics: m, nodes: p.Nodes, tokens: p.Tokens}
}

// GetChatServer places one user.
func (s *service) GetChatServer(ctx context.Context, req *message.GetChatServerReq) (*message.GetChatServerRsp, error) {
	replies, code := s.place(ctx, []int32{req.Uid})
	if code != wire.CodeOK {
		return &message.GetChatServerRsp{Error: int32(code)}, nil
	}
	return replies[0], nil
}

// GetChatServers places up to MaxBatch users, all or none.
func (s *service) GetChatServers(ctx context.Context, req *message.GetChatServersReq) (*message.GetChatServersRsp, error) {
	replies, code := s.place(ctx, req.Uids)
	return &message.GetChatServersRsp{Error: int32(code), Replies: replies}, nil
}

func (s *service) place(ctx context.Context, uids []int32) ([]*message.GetChatServerRsp, wire.Code) {
	replies, code := s.placeAll(ctx, uids)
	s.metrics.placements.WithLabelValues(word(code)).Add(float64(len(uids)))
	return replies, code
}

func (s *service) placeAll(ctx context.Context, uids []int32) ([]*message.GetChatServerRsp, wire.Code) {
	if len(uids) > MaxBatch {
		return nil, wire.CodeBadRequest
	}
	for _, uid := range uids {
		if uid <= 0 {
			return nil, wire.CodeUIDInvalid
		}
	}
	placed, err := s.nodes.Place(ctx, uids)
	if err != nil {
		return nil, s.codeOf("place", err)
	}
	replies := make([]*message.GetChatServerRsp, len(placed))
	for i, p := range placed {
		host, port, err := net.SplitHostPort(p.ClientAddr)
		if err != nil && p.ClientAddr != "" { // a lease with such an address is not of our making
			if s.noise.Allow() {
				s.log.Warn("malformed client address in the lease of a chat node; check its [SelfServer] Advertise", "peer", p.Node, "addr", p.ClientAddr)
			}
			return nil, wire.CodeRPC
		}
		replies[i] = &message.GetChatServerRsp{Host: host, Port: port, Token: p.Token, Node: p.Node, Tls: p.Web.TLS, Ws: p.Web.WS, Wss: p.Web.WSS}
	}
	return replies, wire.CodeOK
}

// Login says whether a token would be accepted now, and leaves it valid. llfcchat's has the test the wrong way round and
// refuses the good ones; none of its programs calls it.
func (s *service) Login(ctx context.Context, req *message.LoginReq) (*message.LoginRsp, error) {
	code := s.check(ctx, req)
	s.metrics.logins.WithLabelValues(word(code)).Inc()
	if code != wire.CodeOK {
		return &message.LoginRsp{Error: int32(code)}, nil
	}
	return &message.LoginRsp{Uid: req.Uid, Token: req.Token}, nil
}

func (s *service) check(ctx context.Context, req *message.LoginReq) wire.Code {
	if req.Uid <= 0 {
		return wire.CodeUIDInvalid
	}
	if req.Token == "" {
		return wire.CodeTokenInvalid
	}
	ok, err := s.tokens.Check(ctx, req.Uid, req.Token)
	switch {
	case err != nil:
		return s.codeOf("check token", err)
	case !ok:
		return wire.CodeTokenInvalid
	}
	return wire.CodeOK
}

// codeOf returns what a caller is told about err and logs what an operator should know of it.
func (s *service) codeOf(what string, err error) wire.Code {
	switch {
	case errors.Is(err, presence.ErrNoNode):
		if s.noise.Allow() {
			s.log.Warn("no chat node can take users")
		}
		return wire.CodeRPC
	case errors.Is(err, presence.ErrBusy):
		return wire.CodeBusy
	case errors.Is(err, context.Canceled):
		return wire.CodeUnavailable // the caller left
	}
	if s.noise.Allow() {
		// The error's text may carry keys, which carry uids.
		s.log.Warn("redis does not answer", "op", what, "err", obs.ErrorClass(err))
	}
	return wire.CodeUnavailable
}
