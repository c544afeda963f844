package gate

import (
	"context"
	"time"

	"parley/internal/obs"
	"parley/internal/presence"
	"parley/internal/rpc"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/chatservice"
)

// revokeRetries is how often a failed revocation is repeated in the background, a second apart at first and twice as
// long each time: about two minutes in all.
const revokeRetries = 7

// endSessions makes everything useless that the old password opened: tokens and resume tickets, cached data, sessions.
// Tokens come first, so that a session ended here cannot come back. Revoking is repeated in the background when Redis
// does not answer; ending sessions is a best effort, they live on a node that may be gone.
func (s *Server) endSessions(ctx context.Context, uid int32, name, email string) {
	s.recent.forget(uid)
	if err := s.accounts.succeeded(ctx, email); err != nil && s.noise.Allow() {
		s.log.Warn("failed logins of an account stay counted after a reset", "err", safe(err))
	}
	if err := s.revoke(ctx, uid, name); err != nil {
		s.log.Error("tokens issued before a password reset are still good, trying again", "user", s.audit.user(uid), "err", safe(err))
		s.background.Go(func() { s.revokeLater(uid, name) })
		return
	}
	s.kick(ctx, uid)
}

func (s *Server) revoke(ctx context.Context, uid int32, name string) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	if err := s.presence.RevokeTokens(ctx, uid); err != nil {
		return err
	}
	return s.presence.DropProfile(ctx, uid, name)
}

func (s *Server) revokeLater(uid int32, name string) {
	pause := time.Second
	for range revokeRetries {
		select {
		case <-time.After(pause):
		case <-s.stopping.Done():
			s.log.Error("stopping with tokens issued before a password reset still good", "user", s.audit.user(uid))
			return
		}
		ctx := context.WithoutCancel(s.stopping)
		if s.revoke(ctx, uid, name) == nil {
			s.kick(ctx, uid)
			return
		}
		pause *= 2
	}
	s.log.Error("gave up: tokens issued before a password reset are good until they expire", "user", s.audit.user(uid))
}

// kick ends the user's sessions on whatever nodes hold them.
func (s *Server) kick(ctx context.Context, uid int32) {
	ctx, cancel := context.WithTimeout(ctx, 3*kickTimeout)
	defer cancel()
	found, err := s.presence.Locate(ctx, []int32{uid})
	if err != nil {
		s.kickFailed(uid, err)
		return
	}
	if len(found) == 0 || len(found[0]) == 0 {
		return
	}
	nodes, err := s.presence.Nodes(ctx)
	if err != nil {
		s.kickFailed(uid, err)
		return
	}
	for _, at := range found[0] {
		addr := ""
		for _, n := range nodes {
			if n.Live && n.Name == at.Node && n.Boot == at.Boot {
				addr = n.RPCAddr
			}
		}
		if addr == "" {
			s.metrics.kicks.WithLabelValues("gone").Inc() // with the node the session ended
			continue
		}
		s.kickAt(ctx, addr, at)
	}
}

func (s *Server) kickAt(ctx context.Context, addr string, at presence.Location) {
	ctx, cancel := context.WithTimeout(ctx, kickTimeout)
	defer cancel()
	// Resets are rare: a client for this one call saves keeping one for each node that ever was.
	c := rpc.NewClient(rpc.ClientConfig{Auth: s.auth, Metrics: s.rpcMetrics, Timeout: kickTimeout}, addr)
	defer c.Close()
	chat, err := chatservice.NewClient("chatnode", c.Options()...)
	if err == nil {
		_, err = chat.NotifyKickUser(ctx, &message.KickUserReq{Uid: at.UID, Sid: at.SID})
	}
	if err != nil {
		s.kickFailed(at.UID, err)
		return
	}
	s.metrics.kicks.WithLabelValues("ok").Inc()
}

func (s *Server) kickFailed(uid int32, err error) {
	s.metrics.kicks.WithLabelValues("failed").Inc()
	if s.noise.Allow() {
		s.log.Warn("a session of a user who reset the password may live on", "user", s.audit.user(uid), "err", safe(err))
	}
}

// safe is what may be logged of an error of a driver.
func safe(err error) string { return obs.ErrorClass(err) }
