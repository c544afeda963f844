package delivery

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/internal/obs"
	"parley/internal/peer"
	"parley/internal/router"
	"parley/internal/session"
	"parley/internal/textrate"
	"parley/internal/wire"
	"parley/kitex_gen/message"
)

// A Service answers the calls of other nodes: NodeService for Parley's, ChatService for llfcchat's. Its methods use
// this node's memory and read at most a profile.
type Service struct {
	d       ServiceDeps
	streams peer.Streams
}

// ServiceDeps are the dependencies of a Service.
type ServiceDeps struct {
	Delivery *Delivery
	Boot     func() string
	Texts    *textrate.Limiter
	// Kick ends a session of this node. Replace also waits if that session is still logging in; see ending.Ender.
	Kick    func(uid int32, sid string) (pending *session.Session)
	Replace func(uid int32, sid string)
	// Operate answers operators.
	Operate func(ctx context.Context, req *message.OperateReq) *message.OperateRsp
	// Profile reads a user's profile within Timeout.
	Profile func(ctx context.Context, uid int32) (wire.Profile, error)
	Timeout time.Duration
	// Delivered counts the pushes received from other nodes.
	Delivered prometheus.Counter
}

// NewService returns a Service.
func NewService(d ServiceDeps) *Service { return &Service{d: d} }

// Hello returns the name and the boot id of this node.
func (s *Service) Hello(context.Context, *message.HelloReq) (*message.HelloRsp, error) {
	return &message.HelloRsp{Name: s.d.Delivery.d.Node, Boot: s.d.Boot(), Version: obs.Version()}, nil
}

// Operate answers operators, who come by way of a status node.
func (s *Service) Operate(ctx context.Context, req *message.OperateReq) (*message.OperateRsp, error) {
	ctx, cancel := context.WithTimeout(ctx, s.d.Timeout)
	defer cancel()
	return s.d.Operate(ctx, req), nil
}

// Deliver hands pushes to sessions of this node. A repeated call returns the answer to the first without delivering
// again.
func (s *Service) Deliver(_ context.Context, req *message.DeliverReq) (*message.DeliverRsp, error) {
	codes := s.streams.Do(req.Stream, req.Call, len(req.Pushes), func() []int32 { return s.deliverAll(req) })
	return &message.DeliverRsp{Codes: codes}, nil
}

// deliverAll delivers the pushes of one call in order and returns a code for each. All frames for one session leave
// in one write, when the cork is released.
func (s *Service) deliverAll(req *message.DeliverReq) []int32 {
	codes := make([]int32, len(req.Pushes))
	var cork session.Cork
	defer cork.Release()
	for i, in := range req.Pushes {
		if in == nil {
			codes[i] = peer.CodeNotHere
			continue
		}
		switch wire.MsgID(in.MsgId) {
		case 0:
			codes[i] = s.elsewhere(in)
			continue
		case wire.MsgGap:
			codes[i] = s.gap(in)
			continue
		case wire.MsgOnline: // between nodes: users whose presence changed
			s.d.Delivery.Watch.Receive(&session.Push{Body: in.Body})
			continue
		}
		push := session.Push{
			To: in.ToUid, Device: in.Device, SID: in.Sid, ID: wire.MsgID(in.MsgId), From: in.FromUid,
			Thread: in.ThreadId, Seq: in.Seq, Body: in.Body, Ver: in.MemberVer, First: in.FirstSeq,
		}
		if push.ID == wire.MsgGroupPush {
			codes[i] = s.rows(&push)
			continue
		}
		codes[i] = s.deliver(&push, &cork)
	}
	s.d.Delivered.Add(float64(len(req.Pushes)))
	return codes
}

// elsewhere notes that the user has sessions on other nodes. If the hint was late, those sessions have missed what
// was sent from here, and get a gap notice.
func (s *Service) elsewhere(in *message.Push) int32 {
	s.d.Texts.Shared(in.ToUid, int(in.Seq), time.Now())
	if !s.d.Delivery.d.Registry.Elsewhere(in.ToUid) {
		return peer.CodeNotHere
	}
	if in.ThreadId == router.LateHint {
		s.d.Delivery.Router.Deliver([]session.Push{{To: in.ToUid, ID: wire.MsgGap}}, nil)
	}
	return int32(wire.CodeOK)
}

// rows takes group rows, for the group's members on this node or for one user.
func (s *Service) rows(p *session.Push) int32 {
	if p.To == 0 {
		s.d.Delivery.Groups.Deliver(p)
		return int32(wire.CodeOK)
	}
	n, elsewhere := s.d.Delivery.Groups.User(p)
	switch {
	case n > 0 && elsewhere:
		return peer.CodeElsewhereToo
	case n > 0:
		return int32(wire.CodeOK)
	}
	return peer.CodeNotHere
}

// gap tells sessions of this node that pushes for them were dropped: those of one user, else those of a group's
// members, else all.
func (s *Service) gap(in *message.Push) int32 {
	if in.ToUid == 0 && in.ThreadId != 0 {
		s.d.Delivery.Groups.Deliver(&session.Push{ID: wire.MsgGap, Thread: in.ThreadId, Seq: in.Seq})
		return int32(wire.CodeOK)
	}
	if in.ToUid == 0 {
		s.d.Delivery.MissedByAll()
		return int32(wire.CodeOK)
	}
	here, elsewhere := s.d.Delivery.Router.Gap(in.ToUid, in.ThreadId, in.Seq)
	switch {
	case here && elsewhere:
		return peer.CodeElsewhereToo
	case here:
		return int32(wire.CodeOK)
	}
	return peer.CodeNotHere
}

// deliver hands a push to the user's sessions on this node and returns the code for the caller. A slow session
// closes; it is not a reason to look for the user elsewhere.
func (s *Service) deliver(push *session.Push, cork *session.Cork) int32 {
	n, elsewhere, err := s.d.Delivery.d.Registry.Deliver(push, cork)
	switch {
	case n > 0 && elsewhere:
		return peer.CodeElsewhereToo
	case n > 0:
		return int32(wire.CodeOK)
	case err == session.ErrSlow:
		return int32(wire.CodeSlowConsumer)
	}
	return peer.CodeNotHere
}

// encoded delivers a push whose body is encoded from v, for ChatService.
func (s *Service) encoded(push session.Push, v any) int32 {
	body, err := wire.Encode(v)
	if err != nil || len(body) > wire.MaxBody {
		return int32(wire.CodeBadRequest)
	}
	push.Body = body
	return s.deliver(&push, nil)
}

// NotifyAddFriend pushes a friend request (1011).
func (s *Service) NotifyAddFriend(_ context.Context, r *message.AddFriendReq) (*message.AddFriendRsp, error) {
	code := s.encoded(session.Push{To: r.Touid, From: r.Applyuid, ID: wire.MsgApplied}, wire.AppliedPush{
		ApplyUID: r.Applyuid, Name: r.Name, Desc: r.Desc, Icon: r.Icon, Nick: r.Nick, Sex: r.Sex,
	})
	return &message.AddFriendRsp{Error: code, Applyuid: r.Applyuid, Touid: r.Touid}, nil
}

// NotifyAuthFriend pushes an approval (1015). It refuses one without a message, because the stock client reads the
// first message unconditionally.
func (s *Service) NotifyAuthFriend(ctx context.Context, r *message.AuthFriendReq) (*message.AuthFriendRsp, error) {
	rsp := &message.AuthFriendRsp{Fromuid: r.Fromuid, Touid: r.Touid}
	if len(r.Textmsgs) == 0 {
		rsp.Error = int32(wire.CodeBadRequest)
		return rsp, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.d.Timeout)
	defer cancel()
	approver, err := s.d.Profile(ctx, r.Fromuid)
	if err != nil {
		rsp.Error = int32(wire.CodeOr(err, wire.CodeUnavailable))
		return rsp, nil
	}
	now := time.Now()
	push := wire.ApprovedPush{
		FromUID: r.Fromuid, ToUID: r.Touid, Name: approver.Name, Nick: approver.Nick, Icon: approver.Icon, Sex: approver.Sex,
	}
	for _, t := range r.Textmsgs {
		push.Chats = append(push.Chats, wire.StoredText{
			Sender: t.SenderId, MsgID: int64(t.MsgId), ThreadID: int64(t.ThreadId), UniqueID: t.UniqueId,
			Content: t.Msgcontent, Status: wire.StatusSent, CreatedMS: now.UnixMilli(), ChatTime: now.UTC().Format(time.DateTime),
		})
	}
	rsp.Error = s.encoded(session.Push{To: r.Touid, From: r.Fromuid, ID: wire.MsgApproved}, push)
	return rsp, nil
}

// NotifyTextChatMsg pushes texts (1019).
func (s *Service) NotifyTextChatMsg(_ context.Context, r *message.TextChatMsgReq) (*message.TextChatMsgRsp, error) {
	rsp := &message.TextChatMsgRsp{Fromuid: r.Fromuid, Touid: r.Touid, ThreadId: r.ThreadId, Textmsgs: r.Textmsgs}
	if len(r.Textmsgs) == 0 {
		return rsp, nil
	}
	body := wire.TextPush{FromUID: r.Fromuid, ToUID: r.Touid, ThreadID: int64(r.ThreadId)}
	push := session.Push{To: r.Touid, From: r.Fromuid, ID: wire.MsgTextPush, Thread: int64(r.ThreadId)}
	for _, t := range r.Textmsgs {
		body.Chats = append(body.Chats, wire.PushedText{
			Seq: int64(t.MsgId), UniqueID: t.UniqueId, Content: t.Msgcontent, ChatTime: t.ChatTime, Status: wire.StatusSent,
		})
		push.Seq = int64(t.MsgId)
	}
	rsp.Error = s.encoded(push, body)
	return rsp, nil
}

// NotifyKickUser ends one session of a user on this node, or all of them if the caller names none.
func (s *Service) NotifyKickUser(_ context.Context, r *message.KickUserReq) (*message.KickUserRsp, error) {
	rsp := &message.KickUserRsp{Uid: r.Uid}
	if r.Sid != "" {
		s.d.Replace(r.Uid, r.Sid)
		if r.Moved {
			sid, _ := session.ParseSID(r.Sid) // an invalid id yields 0, which no session has
			rsp.Texts = s.d.Texts.HandOver(r.Uid, sid, time.Now())
		}
	} else {
		var few [session.MaxDevices]session.SID
		for _, sid := range s.d.Delivery.d.Registry.Of(few[:0], r.Uid) {
			s.d.Kick(r.Uid, sid.String())
		}
	}
	return rsp, nil
}

// RplyAddFriend is declared in llfcchat's service definition, but no node implements it.
func (s *Service) RplyAddFriend(_ context.Context, r *message.RplyFriendReq) (*message.RplyFriendRsp, error) {
	return &message.RplyFriendRsp{Error: int32(wire.CodeBadRequest), Rplyuid: r.Rplyuid, Touid: r.Touid}, nil
}

// SendChatMsg is declared in llfcchat's service definition, but no node implements it.
func (s *Service) SendChatMsg(_ context.Context, r *message.SendChatMsgReq) (*message.SendChatMsgRsp, error) {
	return &message.SendChatMsgRsp{Error: int32(wire.CodeBadRequest), Fromuid: r.Fromuid, Touid: r.Touid}, nil
}
