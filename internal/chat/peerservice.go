package chat

import (
	"context"
	"time"

	"parley/internal/obs"
	"parley/internal/peer"
	"parley/internal/router"
	"parley/internal/session"
	"parley/internal/wire"
	"parley/kitex_gen/message"
)

// peerService answers other nodes: NodeService for ours, ChatService for foreign ones. Its methods touch this node's
// memory, and at most a profile.
type peerService struct {
	s       *Server
	streams peer.Streams
}

// Hello says which life of which node this is.
func (p *peerService) Hello(context.Context, *message.HelloReq) (*message.HelloRsp, error) {
	return &message.HelloRsp{Name: p.s.cfg.SelfServer.Name, Boot: p.s.lease.Boot(), Version: obs.Version()}, nil
}

// Deliver hands pushes to sessions of this node. A call that is made again gets the answer of the first time.
func (p *peerService) Deliver(_ context.Context, req *message.DeliverReq) (*message.DeliverRsp, error) {
	codes := p.streams.Do(req.Stream, req.Call, len(req.Pushes), func() []int32 { return p.deliverAll(req) })
	return &message.DeliverRsp{Codes: codes}, nil
}

func (p *peerService) deliverAll(req *message.DeliverReq) []int32 {
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
			codes[i] = p.elsewhere(in)
			continue
		case wire.MsgGap:
			codes[i] = p.gap(in)
			continue
		}
		push := session.Push{
			To: in.ToUid, Device: in.Device, SID: in.Sid, ID: wire.MsgID(in.MsgId), From: in.FromUid,
			Thread: in.ThreadId, Seq: in.Seq, Body: in.Body,
		}
		codes[i] = p.deliver(&push, &cork)
	}
	p.s.metrics.delivered.Add(float64(len(req.Pushes)))
	return codes
}

// elsewhere notes that the user has sessions on other nodes. If that was said late, these have missed what was sent from
// here meanwhile.
func (p *peerService) elsewhere(in *message.Push) int32 {
	p.s.texts.Shared(in.ToUid, int(in.Seq), time.Now())
	if !p.s.registry.Elsewhere(in.ToUid) {
		return peer.CodeNotHere
	}
	if in.ThreadId == router.LateHint {
		p.s.router.Deliver([]session.Push{{To: in.ToUid, ID: wire.MsgGap}}, nil)
	}
	return int32(wire.CodeOK)
}

// gap tells sessions here that pushes for them were dropped: those of a user or, without one, all.
func (p *peerService) gap(in *message.Push) int32 {
	if in.ToUid == 0 {
		p.s.missedByAll()
		return int32(wire.CodeOK)
	}
	here, elsewhere := p.s.router.Gap(in.ToUid, in.ThreadId, in.Seq)
	switch {
	case here && elsewhere:
		return peer.CodeElsewhereToo
	case here:
		return int32(wire.CodeOK)
	}
	return peer.CodeNotHere
}

func (p *peerService) deliver(push *session.Push, cork *session.Cork) int32 {
	n, elsewhere, err := p.s.registry.Deliver(push, cork)
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

// encoded delivers a push built from a foreign caller's fields.
func (p *peerService) encoded(push session.Push, v any) int32 {
	body, err := wire.Encode(v)
	if err != nil || len(body) > wire.MaxBody {
		return int32(wire.CodeBadRequest)
	}
	push.Body = body
	return p.deliver(&push, nil)
}

// NotifyAddFriend pushes 1011.
func (p *peerService) NotifyAddFriend(_ context.Context, r *message.AddFriendReq) (*message.AddFriendRsp, error) {
	code := p.encoded(session.Push{To: r.Touid, From: r.Applyuid, ID: wire.MsgApplied}, wire.AppliedPush{
		ApplyUID: r.Applyuid, Name: r.Name, Desc: r.Desc, Icon: r.Icon, Nick: r.Nick, Sex: r.Sex,
	})
	return &message.AddFriendRsp{Error: code, Applyuid: r.Applyuid, Touid: r.Touid}, nil
}

// NotifyAuthFriend pushes 1015. Without a message it is refused: the stock client reads the first one without looking.
func (p *peerService) NotifyAuthFriend(ctx context.Context, r *message.AuthFriendReq) (*message.AuthFriendRsp, error) {
	rsp := &message.AuthFriendRsp{Fromuid: r.Fromuid, Touid: r.Touid}
	if len(r.Textmsgs) == 0 {
		rsp.Error = int32(wire.CodeBadRequest)
		return rsp, nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.s.cfg.Limits.RequestTimeout)
	defer cancel()
	approver, err := p.s.profile(ctx, r.Fromuid)
	if err != nil {
		rsp.Error = int32(codeOf(err))
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
	rsp.Error = p.encoded(session.Push{To: r.Touid, From: r.Fromuid, ID: wire.MsgApproved}, push)
	return rsp, nil
}

// NotifyTextChatMsg pushes 1019.
func (p *peerService) NotifyTextChatMsg(_ context.Context, r *message.TextChatMsgReq) (*message.TextChatMsgRsp, error) {
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
	rsp.Error = p.encoded(push, body)
	return rsp, nil
}

// NotifyKickUser ends one session of a user here, or all of them when the caller names none.
func (p *peerService) NotifyKickUser(_ context.Context, r *message.KickUserReq) (*message.KickUserRsp, error) {
	rsp := &message.KickUserRsp{Uid: r.Uid}
	if r.Sid != "" {
		p.s.replaceLocal(r.Uid, r.Sid)
		if r.Moved {
			rsp.Texts = p.s.texts.HandOver(r.Uid, time.Now())
		}
	} else {
		var few [session.MaxDevices]session.SID
		for _, sid := range p.s.registry.Of(few[:0], r.Uid) {
			p.s.kickLocal(r.Uid, sid.String())
		}
	}
	return rsp, nil
}

// RplyAddFriend is declared by upstream and implemented by nobody.
func (p *peerService) RplyAddFriend(_ context.Context, r *message.RplyFriendReq) (*message.RplyFriendRsp, error) {
	return &message.RplyFriendRsp{Error: int32(wire.CodeBadRequest), Rplyuid: r.Rplyuid, Touid: r.Touid}, nil
}

// SendChatMsg is declared by upstream and implemented by nobody.
func (p *peerService) SendChatMsg(_ context.Context, r *message.SendChatMsgReq) (*message.SendChatMsgRsp, error) {
	return &message.SendChatMsgRsp{Error: int32(wire.CodeBadRequest), Fromuid: r.Fromuid, Touid: r.Touid}, nil
}
