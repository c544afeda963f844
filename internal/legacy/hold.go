package legacy

import (
	"time"

	"parley/internal/session"
	"parley/internal/wire"
)

// Asking records that a 1025 has arrived. Its turn comes after the end of the login, which on a busy node may take longer than FirstLoad.
func (p *Policy) Asking() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asking, p.gen1 = true, false
}

// ThreadsAsked receives the cursor of a 1025 and returns the cursor to use. The first 1025 of a session starts from
// the beginning whatever its cursor: after a new login the client still has its old cursor, but no longer its list.
func (p *Policy) ThreadsAsked(after int64) (cursor int64, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked {
		return after, false
	}
	p.asking, p.asked, p.gen1, p.stored = true, true, false, nil
	return 0, true
}

// Announce records that the next 1026 lists a thread. It returns false if the thread must not be listed: either its
// peer is not in the friend_list of this login, which would crash the client; or the client knows the thread already,
// and would forget its texts. Texts of the thread wait until its history has been served. The client asks for the
// history even if it is empty.
func (p *Policy) Announce(id int64, peer int32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, friend := p.friends[peer]
	_, known := p.threads[id]
	if !friend || known {
		return false
	}
	p.threads[id] = thread{loading: true}
	p.naming = true
	return true
}

// ThreadsListed records that the last 1026 was sent. Pushes may go out now, those of a thread once its history is
// loaded.
func (p *Policy) ThreadsListed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listed, p.progress = true, time.Now()
	p.pumpLocked(p.progress)
}

// AnnounceLoaded records that the next reply (a 1028) names a thread that needs no loading. It returns false if the
// reply must not name it, because its peer is not a friend of the client's user.
func (p *Policy) AnnounceLoaded(id int64, peer int32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.friends[peer]; !ok {
		return false
	}
	if _, known := p.threads[id]; !known {
		p.threads[id] = thread{}
		p.naming = true
	}
	return true
}

// Befriended records that the next 1014 announces a new friend and the first messages of their thread.
func (p *Policy) Befriended(uid int32, id, lastSeq int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.befriendLocked(uid, id, lastSeq)
	p.naming = true
}

func (p *Policy) befriendLocked(uid int32, id, lastSeq int64) {
	p.friends[uid] = struct{}{}
	if t := p.threads[id]; t.served < lastSeq {
		t.served = lastSeq
		p.threads[id] = t
	}
}

// HistoryAsked records that a 1029 is about to be answered; pushes of the thread wait for the answer. It returns the
// number from which on the answer must omit texts, because pushes have delivered them, or 0 if there is none. A
// client whose load was interrupted by a new login in the same process also goes through its old list of threads, and
// so asks for some threads twice.
func (p *Policy) HistoryAsked(id int64) (pushed int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress = time.Now()
	t, ok := p.threads[id]
	if !ok {
		return 0
	}
	t.loading, t.reading = true, true
	p.threads[id] = t
	return t.pushed
}

// HistoryServed records that a 1030 delivered a thread up to a number. If more is set, the client will ask for the
// next page.
func (p *Policy) HistoryServed(id, last int64, more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, ok := p.threads[id]
	if !ok {
		return
	}
	t.loading, t.reading, t.served = more, false, max(t.served, last)
	p.threads[id] = t
	p.pumpLocked(time.Now())
}

// FirstGeneration records that the client knows no threads.
func (p *Policy) FirstGeneration() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gen1 = !p.asking
	p.pumpLocked(time.Now())
}

// releasableLocked reports whether the client's load permits sending a push now.
func (p *Policy) releasableLocked(push *session.Push, now time.Time) bool {
	if p.naming || (!p.listed && !p.gen1) {
		return false
	}
	if push.ID != wire.MsgTextPush || p.gen1 {
		return true
	}
	return !p.threads[push.Thread].loading || now.Sub(p.progress) >= LoadPatience
}

// loadsLocked reports whether the client will get a text from a page of history that has not been read from the store
// yet. A page that is being read may lack the text.
func (p *Policy) loadsLocked(push *session.Push) bool {
	t := p.threads[push.Thread]
	return push.ID == wire.MsgTextPush && !p.gen1 && t.loading && !t.reading
}

// dropLoadingLocked drops texts that the client will get from history, to make room for others.
func (p *Policy) dropLoadingLocked() {
	for i := 0; i < len(p.pushes); {
		if !p.loadsLocked(&p.pushes[i]) {
			i++
			continue
		}
		count(p.counters.LeftToHistory)
		p.dropLocked(i)
	}
}

// nextPushLocked removes the first push that may be sent and returns its frame, or nil if there is none.
func (p *Policy) nextPushLocked(now time.Time) []byte {
	for i := 0; i < len(p.pushes); {
		if !p.releasableLocked(&p.pushes[i], now) {
			i++
			continue
		}
		push := p.pushes[i]
		if push.ID != wire.MsgTextPush {
			p.dropLocked(i)
			if frame := p.frameLocked(&push); frame != nil {
				return frame
			}
			continue
		}
		_, known := p.threads[push.Thread]
		_, friend := p.friends[push.From]
		if !friend && (!known || p.gen1) {
			count(p.counters.Unsafe) // it would crash the client; the next login lists the friend and the thread
			p.dropLocked(i)
			continue
		}
		if !known && !p.gen1 {
			// The thread was created during this session: announce it first. The text follows after the frame
			// spacing.
			p.threads[push.Thread] = thread{}
			count(p.counters.Reannounced)
			return encode(wire.MsgOpenThreadRsp, wire.OpenThreadReply{UID: push.To, OtherUID: push.From, ThreadID: push.Thread})
		}
		if frame := p.textsLocked(i); frame != nil {
			return frame
		}
	}
	return nil
}

// dropLocked removes a held push.
func (p *Policy) dropLocked(i int) {
	p.held -= len(p.pushes[i].Body)
	if p.pushes[i].ID == wire.MsgApplied {
		p.applied--
	}
	p.pushes = append(p.pushes[:i], p.pushes[i+1:]...)
	if len(p.pushes) == 0 {
		p.pushes = nil
	}
}

// frameLocked returns the frame of a push that is not a text, and records what it tells the client.
func (p *Policy) frameLocked(push *session.Push) []byte {
	if push.ID == wire.MsgApproved {
		var body wire.ApprovedPush
		if err := wire.Decode(push.Body, &body); err != nil || len(body.Chats) == 0 {
			count(p.counters.Unsafe)
			return nil
		}
		last := body.Chats[len(body.Chats)-1]
		p.befriendLocked(body.FromUID, last.ThreadID, last.MsgID)
	}
	frame, err := wire.AppendFrame(nil, push.ID, push.Body)
	if err != nil {
		return nil
	}
	return frame
}
