package gate

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"parley/internal/obs"
	"parley/internal/presence"
	"parley/internal/rpc"
	"parley/internal/wire"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/chatservice"
)

// revokeRetries is how often a failed revocation is repeated in the background. The pause starts at a second and
// doubles: about two minutes in all.
const revokeRetries = 7

// sessions ends what was obtained with a password that is not valid any more.
type sessions struct {
	*shared
	recent   *proofs
	accounts *accountLimit
	clients  *clients

	stopping   context.Context // ends when draining begins
	background sync.WaitGroup  // revocations being repeated
}

// end ends everything obtained with the old password: tokens and resume tickets, cached data, sessions. It
// revokes tokens first, so that a session ended here cannot come back. If Redis does not answer, the revocation is
// repeated in the background. A session that is missed here is ended by its node, which compares all its sessions
// with Redis. after is the audit event that caused this.
func (s *sessions) end(ctx context.Context, after string, uid int32, name, email string) {
	log := s.log.With("after", after, "user", s.audit.user(uid))
	s.recent.forget(uid)
	if err := s.accounts.succeeded(ctx, email); err != nil && s.noise.Allow() {
		log.Warn("count of an account's failed logins not reset", "err", safe(err))
	}
	if err := s.revoke(ctx, uid, name); err != nil {
		log.Error("tokens not revoked, retrying", "err", safe(err))
		s.background.Go(func() { s.revokeLater(log, uid, name) })
		return
	}
	s.kick(ctx, log, uid)
}

func (s *sessions) revoke(ctx context.Context, uid int32, name string) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Redis.Timeout)
	defer cancel()
	if err := s.presence.Tokens.Revoke(ctx, uid); err != nil {
		return err
	}
	return s.presence.Cache.DropProfile(ctx, uid, name)
}

// revokeLater repeats a failed revocation in the background. It then ends the sessions again, because one of them may
// have logged in with a token that was still valid.
func (s *sessions) revokeLater(log *slog.Logger, uid int32, name string) {
	pause := time.Second
	for range revokeRetries {
		select {
		case <-time.After(pause):
		case <-s.stopping.Done():
			log.Error("stopping with tokens not revoked")
			return
		}
		ctx := context.WithoutCancel(s.stopping)
		if s.revoke(ctx, uid, name) == nil {
			s.kick(ctx, log, uid)
			return
		}
		pause *= 2
	}
	log.Error("gave up: tokens not revoked are valid until they expire")
}

// kick ends the user's sessions on all nodes. A node that cannot be called finds the kick in its mailbox. A node
// without a lease may be paused or cut off; it is also fenced, so that it stores nothing more for the session.
func (s *sessions) kick(ctx context.Context, log *slog.Logger, uid int32) {
	ctx, cancel := context.WithTimeout(ctx, kickTimeout+2*s.cfg.Redis.Timeout)
	defer cancel()
	found, err := s.presence.Sessions.Locate(ctx, []int32{uid})
	if err != nil {
		s.kickFailed(log, err)
		return
	}
	var kicks sync.WaitGroup
	for _, at := range found[0] { // at most presence.MaxDevices
		kicks.Go(func() { s.kickOne(ctx, log, at) })
	}
	kicks.Wait()
}

// kickOne ends one session. If its node has no lease, the kick is left in the mailbox and the node is fenced: a
// cut-off process finds one or the other, whichever server it reaches first.
func (s *sessions) kickOne(ctx context.Context, log *slog.Logger, at presence.Location) {
	ending, err := s.presence.Sessions.End(ctx, at, func(ctx context.Context, n presence.Node) error {
		return s.kickAt(ctx, n.RPCAddr, at)
	})
	result := "ok"
	switch {
	case err != nil:
	case ending == presence.EndingLeft:
		result = "left"
	case ending == presence.EndingNoNode:
		result, err = "gone", errors.Join(s.presence.Mailboxes.LeaveKick(ctx, at), s.store.Fence.Forbid(ctx, at.Node, at.Boot))
	}
	if err != nil {
		s.kickFailed(log, err)
		return
	}
	s.metrics.kicks.WithLabelValues(result).Inc()
}

// kickAt calls the node at an address to end a session.
func (s *sessions) kickAt(ctx context.Context, addr string, at presence.Location) error {
	ctx, cancel := context.WithTimeout(ctx, kickTimeout)
	defer cancel()
	// Calls are rare, so a client per call is better than keeping one for every node.
	c := rpc.NewClient(rpc.ClientConfig{Auth: s.clients.auth, Metrics: s.clients.metrics, Timeout: kickTimeout}, addr)
	defer c.Close()
	chat, err := chatservice.NewClient("chatnode", c.Options()...)
	if err == nil {
		var rsp *message.KickUserRsp
		rsp, err = chat.NotifyKickUser(ctx, &message.KickUserReq{Uid: at.UID, Sid: at.SID})
		if err == nil && rsp.Error != 0 {
			err = wire.Refuse(wire.Code(rsp.Error), nil)
		}
	}
	if err != nil && s.noise.Allow() {
		s.log.Warn("kick unanswered; left in the node's mailbox", "peer", at.Node, "err", safe(err))
	}
	return err
}

func (s *sessions) kickFailed(log *slog.Logger, err error) {
	s.metrics.kicks.WithLabelValues("failed").Inc()
	if s.noise.Allow() {
		log.Warn("session not ended; it may live for up to a minute", "err", safe(err))
	}
}

// safe returns the part of a driver's error that may be logged.
func safe(err error) string { return obs.ErrorClass(err) }
