package stockmodel

import (
	"context"
	"crypto/rand"
	"fmt"

	"parley/internal/wire"
)

// Actions of the client's user. Each method returns ErrGone if no user is logged in.

// Search submits a query and waits while the client shows its spinner. uid is 0 if no user was found.
func (p *Process) Search(ctx context.Context, query string) (uid int32, err error) {
	if err := p.do(func() {
		p.searching = true
		p.sendLocked(wire.MsgSearch, map[string]any{"uid": query})
	}); err != nil {
		return 0, err
	}
	if err := p.wait(ctx, wire.MsgSearch, "search spinner", func() bool { return !p.searching }); err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found.num("error") != 0 {
		return 0, nil
	}
	return int32(p.found.num("uid")), nil
}

// Apply sends a friend request.
func (p *Process) Apply(to int32, greeting, alias string) error {
	return p.do(func() {
		p.sendLocked(wire.MsgApply, map[string]any{"uid": p.uid, "touid": to, "applyname": greeting, "bakname": alias})
	})
}

// Approve accepts a friend request, if one is shown.
func (p *Process) Approve(from int32, alias string) error {
	return p.do(func() {
		if _, ok := p.applied[from]; ok {
			p.approving++
			p.sendLocked(wire.MsgApprove, map[string]any{"fromuid": p.uid, "touid": from, "back": alias})
		}
	})
}

// OpenChat opens the page of a friend. If there is none, the client requests the thread and OpenChat returns true.
func (p *Process) OpenChat(peer int32) (asked bool, err error) {
	err = p.do(func() {
		if asked = p.pageLocked(peer) == nil; asked {
			p.sendLocked(wire.MsgOpenThread, map[string]any{"uid": p.uid, "other_id": peer})
		}
	})
	return asked, err
}

// Text sends texts to a friend in one request, as the client does for text around a picture, and shows them as being
// sent. Without a page for the friend it does nothing. It returns their unique ids.
func (p *Process) Text(peer int32, contents ...string) (ids []string, err error) {
	err = p.do(func() {
		if p.opts.Generation == S1 {
			ids = p.textGen1Locked(peer, contents)
			return
		}
		th := p.pageLocked(peer)
		if th == nil {
			return
		}
		elements := []map[string]any{}
		for _, content := range contents {
			t := &Text{UniqueID: newUUID(), Content: content, Sender: p.uid}
			ids = append(ids, t.UniqueID)
			th.texts = append(th.texts, t)
			th.uniques[fmt.Sprint(t.Sender, " ", t.UniqueID)] = struct{}{}
			p.unanswered[t.UniqueID] = t
			elements = append(elements, map[string]any{"content": content, "unique_id": t.UniqueID})
		}
		p.sendLocked(wire.MsgText, map[string]any{"fromuid": p.uid, "touid": peer, "thread_id": th.id, "text_array": elements})
	})
	return ids, err
}

func (p *Process) textGen1Locked(peer int32, contents []string) (ids []string) {
	elements := []map[string]any{}
	for _, content := range contents {
		id := newUUID()
		ids = append(ids, id)
		p.unanswered[id] = &Text{UniqueID: id, Content: content}
		elements = append(elements, map[string]any{"content": content, "msgid": id})
	}
	p.sendLocked(wire.MsgText, map[string]any{"fromuid": p.uid, "touid": peer, "text_array": elements})
	return ids
}

// Beat sends an additional heartbeat.
func (p *Process) Beat() error {
	return p.do(func() { p.sendLocked(wire.MsgHeartbeat, map[string]any{"fromuid": p.uid}) })
}

// Quiet waits until all texts and approvals have been answered.
func (p *Process) Quiet(ctx context.Context) error {
	return p.wait(ctx, wire.MsgText, "answer to a text or an approval", func() bool { return len(p.unanswered) == 0 && p.approving == 0 })
}

// pageLocked returns the chat page of a friend in this login, or nil.
func (p *Process) pageLocked(peer int32) *thread {
	id := p.byPeer[peer]
	if _, ok := p.rows[id]; !ok {
		return nil
	}
	return p.threads[id]
}

func (p *Process) do(f func()) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.window || !p.loaded || p.conn == nil {
		return ErrGone
	}
	f()
	return nil
}

// newUUID returns a UUID in braces, 38 characters, in the client's form.
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return fmt.Sprintf("{%x-%x-%x-%x-%x}", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
