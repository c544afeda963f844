package peer

import (
	"context"
	"errors"
	"time"

	"parley/internal/session"
	"parley/internal/wire"
	"parley/kitex_gen/message"
)

// notify sends a batch to a foreign node with the calls of llfcchat's nodes, one call per push. Pushes without such a
// call are dropped, as in llfcchat.
func (n *linkLane) notify(batch []session.Push) {
	for i := range batch {
		began := time.Now()
		ctx, cancel := context.WithTimeout(n.l.pool.ctx, n.l.pool.cfg.Timeout)
		err := n.notifyOne(ctx, &batch[i])
		cancel()
		if _, ours := errors.AsType[*wire.Error](err); ours {
			n.l.pool.metrics.lost.Inc() // the body could not be decoded: not the peer's fault
			continue
		}
		if err != nil {
			n.l.noteFailure(began, err)
			n.lose(batch[i:])
			return
		}
	}
	n.l.noteSuccess()
}

// notifyOne translates a push into the call of llfcchat's ChatService that corresponds to its message id. Ids and
// numbers are narrowed to the 32 bits of that service.
func (n *linkLane) notifyOne(ctx context.Context, p *session.Push) error {
	chat := n.l.clients.Chat
	switch p.ID {
	case wire.MsgTextPush:
		var body wire.TextPush
		if err := wire.Decode(p.Body, &body); err != nil {
			return err
		}
		req := &message.TextChatMsgReq{Fromuid: p.From, Touid: p.To, ThreadId: int32(p.Thread)}
		for _, t := range body.Chats {
			req.Textmsgs = append(req.Textmsgs, &message.TextChatData{
				UniqueId: t.UniqueID, MsgId: int32(t.Seq), Msgcontent: t.Content,
				ChatTime: time.UnixMilli(t.CreatedMS).UTC().Format(time.DateTime),
			})
		}
		_, err := chat.NotifyTextChatMsg(ctx, req)
		return err
	case wire.MsgApplied:
		var body wire.AppliedPush
		if err := wire.Decode(p.Body, &body); err != nil {
			return err
		}
		_, err := chat.NotifyAddFriend(ctx, &message.AddFriendReq{
			Applyuid: body.ApplyUID, Name: body.Name, Desc: body.Desc, Icon: body.Icon, Nick: body.Nick, Sex: body.Sex, Touid: p.To,
		})
		return err
	case wire.MsgApproved:
		var body wire.ApprovedPush
		if err := wire.Decode(p.Body, &body); err != nil {
			return err
		}
		req := &message.AuthFriendReq{Fromuid: body.FromUID, Touid: p.To}
		for _, t := range body.Chats {
			req.Textmsgs = append(req.Textmsgs, &message.AddFriendMsg{
				SenderId: t.Sender, UniqueId: t.UniqueID, MsgId: int32(t.MsgID), ThreadId: int32(t.ThreadID),
				Msgcontent: t.Content, Status: t.Status,
			})
		}
		_, err := chat.NotifyAuthFriend(ctx, req)
		return err
	}
	return nil
}
