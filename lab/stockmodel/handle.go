package stockmodel

import (
	"fmt"

	"parley/internal/wire"
)

// frameLocked handles a frame as the client does.
func (p *Process) frameLocked(id wire.MsgID, body []byte) {
	o := parse(body)
	if o == nil {
		return // logged and dropped; whatever waits for it waits on
	}
	if !p.window && id != wire.MsgLoginRsp {
		if id != wire.MsgHeartbeatRsp {
			p.faultLocked(Lost, id, "came before 1006: there is no window to show it")
		}
		return
	}
	ok := o.has("error") && o.num("error") == 0
	if p.answers != nil {
		p.answers[id] = o.num("error")
	}
	switch id {
	case wire.MsgLoginRsp:
		p.welcomeLocked(o)
	case wire.MsgSearchRsp:
		if !p.searching {
			p.faultLocked(Crash, id, "no search is under way: its dialog is gone")
			return
		}
		p.searching, p.found = false, o
	case wire.MsgApplied:
		if !ok {
			p.faultLocked(Crash, id, "error is %d: the dialog it would close is gone", o.num("error"))
			return
		}
		if uid := int32(o.num("applyuid")); p.applied[uid] == "" {
			p.applied[uid] = o.str("desc") + " "
		}
	case wire.MsgApproveRsp, wire.MsgApproved:
		p.befriendedLocked(id, o, ok)
	case wire.MsgTextRsp:
		p.answeredLocked(o, ok)
	case wire.MsgTextPush:
		p.textLocked(o, ok)
	case wire.MsgReplaced:
		if ok {
			p.kicked = true
			p.hangUpLocked()
			return
		}
	case wire.MsgThreadsRsp:
		p.threadsLocked(o, ok)
	case wire.MsgOpenThreadRsp:
		if ok {
			p.announceLocked(id, o.num("thread_id"), int32(o.num("other_id")))
		}
	case wire.MsgHistoryRsp:
		p.historyLocked(o, ok)
	}
	p.changedLocked()
}

// welcomeLocked handles a 1006.
func (p *Process) welcomeLocked(o object) {
	switch {
	case !o.has("error"):
		return
	case o.num("error") != 0:
		p.refused = o.num("error")
		return
	case p.window:
		p.faultLocked(Crash, wire.MsgLoginRsp, "a second one on a connection: two chat windows")
		return
	case o.num("uid") == 0 || o.str("name") == "":
		p.faultLocked(Lost, wire.MsgLoginRsp, "uid %d, name %q: the window shows nobody", o.num("uid"), o.str("name"))
	}
	p.uid = int32(o.num("uid"))
	p.window, p.rows, p.unanswered, p.answers, p.askedMore = true, map[int64]struct{}{}, map[string]*Text{}, map[wire.MsgID]int64{}, -1
	for _, a := range o.list("apply_list") {
		p.applied[int32(a.num("uid"))] = a.str("desc") + " "
	}
	for _, f := range o.list("friend_list") {
		p.friends[int32(f.num("uid"))] = struct{}{}
	}
	if p.opts.Generation == S1 {
		p.loaded = true
		return
	}
	go p.beats(p.goodbye)
	p.askThreadsLocked(p.cursor)
}

func (p *Process) askThreadsLocked(cursor int64) {
	p.askedMore = cursor
	p.sendLocked(wire.MsgThreads, map[string]any{"uid": p.uid, "thread_id": cursor})
}

// threadsLocked handles a 1026.
func (p *Process) threadsLocked(o object, ok bool) {
	if !ok {
		p.faultLocked(Hang, wire.MsgThreadsRsp, "error %d: the loading window stays", o.num("error"))
		return
	}
	for _, t := range o.list("threads") {
		if t.str("type") == "group" {
			continue
		}
		peer := int32(t.num("user1_id"))
		if peer == p.uid {
			peer = int32(t.num("user2_id"))
		}
		if p.announceLocked(wire.MsgThreadsRsp, t.num("thread_id"), peer); p.dead {
			return
		}
	}
	asked := p.askedMore
	p.cursor = o.num("next_last_id")
	if o.truth("load_more") {
		if asked >= 0 && p.cursor <= asked && len(o.list("threads")) == 0 {
			p.faultLocked(Hang, wire.MsgThreadsRsp, "load_more without a later cursor: it asks for ever")
			p.hangUpLocked()
			return
		}
		p.askThreadsLocked(p.cursor)
		return
	}
	p.askedMore = -1
	p.loadNextLocked()
}

// announceLocked makes a chat page and its row, as on a 1026, 1028, 1014 or 1015. An existing page is replaced by an
// empty one.
func (p *Process) announceLocked(by wire.MsgID, id int64, peer int32) {
	if _, ok := p.friends[peer]; !ok {
		p.faultLocked(Crash, by, "thread %d with %d, who is not in the friend map", id, peer)
		return
	}
	if id < 1 {
		p.faultLocked(Crash, by, "thread id %d", id)
		return
	}
	if _, twice := p.rows[id]; twice {
		p.faultLocked(Duplicate, by, "thread %d announced again: two rows, and an empty page", id)
	}
	p.rows[id] = struct{}{}
	p.threads[id] = newThread(id, peer)
	p.byPeer[peer] = id
	if by == wire.MsgThreadsRsp {
		p.order = append(p.order, id)
	}
}

// loadNextLocked requests the history of the next thread in the queue, or closes the loading window. The queue
// survives a login: after an interruption it continues where it stopped, with the threads of the user who was logged
// in before.
func (p *Process) loadNextLocked() {
	if p.loadAt >= len(p.order) {
		p.current, p.loaded = nil, true
		return
	}
	p.current = p.threads[p.order[p.loadAt]]
	p.askHistoryLocked()
}

func (p *Process) askHistoryLocked() {
	p.sendLocked(wire.MsgHistory, map[string]any{"thread_id": p.current.id, "message_id": p.current.last})
}

// historyLocked handles a 1030. It applies it to the current thread, whatever thread it names.
func (p *Process) historyLocked(o object, ok bool) {
	if p.current == nil {
		p.faultLocked(Crash, wire.MsgHistoryRsp, "no history is being loaded: null current thread")
		return
	}
	if !ok {
		p.faultLocked(Hang, wire.MsgHistoryRsp, "error %d: the loading window stays", o.num("error"))
		return
	}
	before := p.current.last
	p.current.last = o.num("last_message_id")
	for _, m := range o.list("chat_datas") {
		t := Text{ID: m.num("msg_id"), UniqueID: m.str("unique_id"), Content: m.str("msg_content"), Sender: int32(m.num("sender")), Status: m.num("status")}
		p.showLocked(wire.MsgHistoryRsp, p.current, t)
		p.current.last = t.ID // the last element's id overrides last_message_id
	}
	if o.truth("load_more") {
		if p.current.last <= before {
			p.faultLocked(Hang, wire.MsgHistoryRsp, "load_more without a later cursor: it asks for ever")
			p.hangUpLocked()
			return
		}
		p.askHistoryLocked()
		return
	}
	p.loadAt++
	p.loadNextLocked()
}

// newThread returns an empty page.
func newThread(id int64, peer int32) *thread {
	return &thread{id: id, peer: peer, ids: map[int64]struct{}{}, uniques: map[string]struct{}{}}
}

// showLocked adds a line to a page. The client distinguishes lines by their id but forgets the ids of pushed ones, so
// a text that arrives both ways appears twice. The model detects that by the unique id.
func (p *Process) showLocked(by wire.MsgID, th *thread, t Text) {
	unique := fmt.Sprint(t.Sender, " ", t.UniqueID)
	_, twice := th.ids[t.ID]
	if _, again := th.uniques[unique]; twice && t.ID > 0 || again && t.UniqueID != "" {
		p.faultLocked(Duplicate, by, "message %d (%s) of thread %d twice", t.ID, t.UniqueID, th.id)
		return
	}
	if th.ids[t.ID] = struct{}{}; t.UniqueID != "" {
		th.uniques[unique] = struct{}{}
	}
	th.texts = append(th.texts, &t)
}

// befriendedLocked handles a 1014 or 1015.
func (p *Process) befriendedLocked(id wire.MsgID, o object, ok bool) {
	if id == wire.MsgApproveRsp && p.approving > 0 {
		p.approving--
	}
	if !ok {
		return // logged
	}
	chats := o.list("chat_datas")
	uid := int32(o.num("fromuid"))
	if id == wire.MsgApproveRsp {
		uid = int32(o.num("uid"))
		delete(p.applied, uid)
	}
	if p.opts.Generation == S1 {
		p.friends[uid] = struct{}{}
		return
	}
	if len(chats) == 0 {
		p.faultLocked(Crash, id, "no chat_datas: it reads the first element")
		return
	}
	if _, already := p.friends[uid]; already {
		return // ignored, including its messages
	}
	p.friends[uid] = struct{}{}
	th := chats[0].num("thread_id")
	if p.announceLocked(id, th, uid); p.dead {
		return
	}
	for _, m := range chats {
		t := Text{ID: m.num("msg_id"), UniqueID: m.str("unique_id"), Content: m.str("msg_content"), Sender: int32(m.num("sender")), Status: m.num("status")}
		p.showLocked(id, p.threads[th], t)
		p.threads[th].last = t.ID
	}
}

// answeredLocked handles a 1018.
func (p *Process) answeredLocked(o object, ok bool) {
	if !ok {
		p.faultLocked(Lost, wire.MsgTextRsp, "error %d: the text stays \"sending\" for ever", o.num("error"))
		return
	}
	if p.opts.Generation == S1 {
		for _, m := range o.list("chat_datas") {
			p.settleLocked(p.unanswered[m.str("unique_id")], m)
		}
		return
	}
	th := p.threads[o.num("thread_id")]
	chats := o.list("chat_datas")
	if th == nil && len(chats) > 0 {
		p.faultLocked(Crash, wire.MsgTextRsp, "thread %d is not known: null thread", o.num("thread_id"))
		return
	}
	for _, m := range chats {
		t := p.unanswered[m.str("unique_id")]
		if t == nil {
			p.faultLocked(Duplicate, wire.MsgTextRsp, "unique_id %q is not waited for: the text is added again", m.str("unique_id"))
			continue
		}
		if t.Content != m.str("content") {
			p.faultLocked(Lost, wire.MsgTextRsp, "content of %s came back changed", t.UniqueID)
		}
		p.settleLocked(t, m)
	}
}

func (p *Process) settleLocked(t *Text, answer object) {
	if t == nil {
		return
	}
	t.Status, t.Code = answer.num("status"), answer.num("code")
	delete(p.unanswered, t.UniqueID)
	if p.opts.OnAnswer != nil {
		p.opts.OnAnswer(*t)
	}
}

// textLocked handles a 1019.
func (p *Process) textLocked(o object, ok bool) {
	if !ok {
		p.faultLocked(Lost, wire.MsgTextPush, "error %d", o.num("error"))
		return
	}
	from := int32(o.num("fromuid"))
	_, friend := p.friends[from]
	if p.opts.Generation == S1 {
		if !friend {
			p.faultLocked(Crash, wire.MsgTextPush, "from %d, who is no friend", from)
			return
		}
		th := p.threads[int64(from)]
		if th == nil {
			th = newThread(int64(from), from)
			p.threads[th.id] = th
		}
		p.rows[th.id] = struct{}{}
		for _, m := range o.list("text_array") {
			p.showLocked(wire.MsgTextPush, th, Text{UniqueID: m.str("msgid"), Content: m.str("content"), Sender: from, Status: wire.StatusSent})
		}
		return
	}
	th := p.threads[o.num("thread_id")]
	if th == nil {
		p.faultLocked(Crash, wire.MsgTextPush, "thread %d was not announced: null thread", o.num("thread_id"))
		return
	}
	if _, row := p.rows[th.id]; !row || !friend {
		p.faultLocked(Lost, wire.MsgTextPush, "thread %d from %d has no row in this chat list", th.id, from)
	}
	for _, m := range o.list("chat_datas") {
		if m.num("status") != wire.StatusSent {
			p.faultLocked(Lost, wire.MsgTextPush, "status %d leaves the unread icon", m.num("status"))
		}
		// The client's constructor drops message_id.
		p.showLocked(wire.MsgTextPush, th, Text{UniqueID: m.str("unique_id"), Content: m.str("content"), Sender: from, Status: wire.StatusSent})
	}
}
