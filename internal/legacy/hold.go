package legacy

import (
	"time"

	"parley/internal/session"
	"parley/internal/wire"
)

// held are the pushes that wait.
type held struct {
	pushes  []session.Push
	bytes   int // of their bodies
	applied int // friend requests among them
}

func (h *held) add(push *session.Push) {
	if push.ID == wire.MsgApplied {
		h.applied++
	}
	h.pushes = append(h.pushes, *push)
	h.bytes += len(push.Body)
}

func (h *held) drop(i int) {
	h.bytes -= len(h.pushes[i].Body)
	if h.pushes[i].ID == wire.MsgApplied {
		h.applied--
	}
	h.pushes = append(h.pushes[:i], h.pushes[i+1:]...)
	if len(h.pushes) == 0 {
		h.pushes = nil
	}
}

// Held returns the bytes of the held pushes.
func (p *Policy) Held() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held.bytes
}

// ThreadsListed records that the last 1026 was sent. Pushes may go out now, those of a thread once its history is
// loaded.
func (p *Policy) ThreadsListed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listed, p.progress = true, time.Now()
	p.pumpLocked(p.progress)
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

// dropLoadingLocked drops texts that the client will get from history, to make room for others.
func (p *Policy) dropLoadingLocked() {
	for i := 0; i < len(p.held.pushes); {
		if !p.loadsLocked(&p.held.pushes[i]) {
			i++
			continue
		}
		count(p.counters.LeftToHistory)
		p.held.drop(i)
	}
}

// nextPushLocked removes the first push that may be sent and returns its frame, or nil if there is none.
func (p *Policy) nextPushLocked(now time.Time) []byte {
	for i := 0; i < len(p.held.pushes); {
		if !p.releasableLocked(&p.held.pushes[i], now) {
			i++
			continue
		}
		push := p.held.pushes[i]
		if push.ID != wire.MsgTextPush {
			p.held.drop(i)
			if frame := p.frameLocked(&push); frame != nil {
				return frame
			}
			continue
		}
		_, known := p.threads[push.Thread]
		_, friend := p.friends[push.From]
		if !friend && (!known || p.gen1) {
			count(p.counters.Unsafe) // it would crash the client; the next login lists the friend and the thread
			p.held.drop(i)
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
