package legacy

import (
	"time"

	"parley/internal/session"
	"parley/internal/wire"
)

// ThreadsAsked takes the cursor of a 1025 and returns the one to use. The first 1025 of a session starts from the
// beginning whatever it says: the client keeps its old cursor over a new login, but not its list.
func (p *Policy) ThreadsAsked(after int64) (cursor int64, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked {
		return after, false
	}
	p.asked, p.gen1, p.stored = true, false, nil
	return 0, true
}

// Announce notes that the coming 1026 lists a thread, and returns false if it must not: its peer is not in the friend_list
// of this login, and the client would crash; or the client knows the thread already, and would forget what it has of it.
// Its texts wait until its history was served, which the client asks for even when it is empty.
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

// ThreadsListed notes that the last 1026 was sent: pushes may go, those of threads as these are loaded.
func (p *Policy) ThreadsListed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listed, p.progress = true, time.Now()
	p.pumpLocked(p.progress)
}

// AnnounceLoaded notes that the coming reply names a thread that needs no loading: a 1028. It returns false if it must
// not, because its peer is none of the client's friends.
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

// Befriended notes that the coming 1014 tells of a new friend and the first messages of its thread.
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

// HistoryAsked notes that a 1029 is about to be answered: pushes of the thread wait for that. It returns the number from
// which on the answer must leave texts out, because pushes have brought them; 0 means none. A client whose load was cut
// short by a new login in the same process goes through its old list of threads too, and so asks for some twice.
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

// HistoryServed notes that a 1030 brought a thread up to a number; with more the client will ask for the next page.
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

// FirstGeneration notes that the client turned out to know no threads.
func (p *Policy) FirstGeneration() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gen1 = !p.asked
	p.pumpLocked(time.Now())
}

// releasableLocked reports whether a push can be written as far as the load goes.
func (p *Policy) releasableLocked(push *session.Push, now time.Time) bool {
	if p.naming || (!p.listed && !p.gen1) {
		return false
	}
	if push.ID != wire.MsgTextPush || p.gen1 {
		return true
	}
	return !p.threads[push.Thread].loading || now.Sub(p.progress) >= LoadPatience
}

// loadsLocked reports whether the client will read a text from a page of history that the store is yet to be asked for. A
// page that is just being read may lack it.
func (p *Policy) loadsLocked(push *session.Push) bool {
	t := p.threads[push.Thread]
	return push.ID == wire.MsgTextPush && !p.gen1 && t.loading && !t.reading
}

// dropLoadingLocked drops the texts that history will bring all the same, when there is no room for them.
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

// nextPushLocked takes the first push that can go and returns its frame; nil if none can.
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
			count(p.counters.Unsafe) // it crashes the client; the next login lists both the friend and the thread
			p.dropLocked(i)
			continue
		}
		if !known && !p.gen1 {
			// Created during this session. The announcement goes first, the text after the frame spacing.
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

// frameLocked returns the frame of a push other than a text, noting what it tells the client.
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

// textsLocked takes the text at i and all later ones of the same thread and sender that fit, leaves out what the client
// has from history, and returns one frame; nil if nothing is left.
func (p *Policy) textsLocked(i int) []byte {
	first := p.pushes[i]
	served := p.servedLocked(first.Thread)
	var merged wire.TextPush
	size, whole := 0, true // whole: the first push alone, with all its texts
	for j := i; j < len(p.pushes); {
		at := &p.pushes[j]
		if at.ID != wire.MsgTextPush || at.Thread != first.Thread || at.From != first.From {
			j++
			continue
		}
		var body wire.TextPush
		if err := wire.Decode(at.Body, &body); err == nil {
			n := encodedLen(&body)
			if size > 0 && size+n > maxMerged {
				break
			}
			if size > 0 {
				count(p.counters.Merged)
			}
			chats := merged.Chats
			for _, t := range body.Chats {
				if t.Type != "" {
					t.Content, t.Type, whole = wire.TypedContent(t.Type), "", false
				}
				if t.Seq > served && p.received.add(first.Thread, t.Seq) {
					chats = append(chats, t)
				}
			}
			whole = whole && size == 0 && len(chats) == len(body.Chats)
			size += n
			merged = body
			merged.Chats = chats
		}
		p.dropLocked(j)
	}
	if len(merged.Chats) == 0 {
		return nil
	}
	p.texts = len(merged.Chats)
	if t, known := p.threads[first.Thread]; known {
		for _, m := range merged.Chats {
			if t.pushed == 0 || m.Seq < t.pushed {
				t.pushed = m.Seq
			}
		}
		p.threads[first.Thread] = t
	}
	if p.gen1 {
		v := firstGeneration(&merged)
		frame := encode(wire.MsgTextPush, v)
		if frame == nil { // one long push, twice in a frame
			v.Chats = nil
			frame = encode(wire.MsgTextPush, v)
		}
		return frame
	}
	if !whole {
		if frame := encode(wire.MsgTextPush, merged); frame != nil {
			return frame
		}
	}
	// As it came: nothing to leave out, or one long push that grew by being written anew.
	frame, err := wire.AppendFrame(nil, wire.MsgTextPush, first.Body)
	if err != nil {
		return nil
	}
	return frame
}

// encodedLen returns how long a push gets at most when it is encoded.
func encodedLen(b *wire.TextPush) int {
	n := 128
	for i := range b.Chats {
		n += 192 + wire.StringLen(b.Chats[i].Content) + wire.StringLen(b.Chats[i].UniqueID)
	}
	return n
}

// gen1Push is the first generation's 1019.
type gen1Push struct {
	Error   wire.Code  `json:"error"`
	FromUID int32      `json:"fromuid"`
	ToUID   int32      `json:"touid"`
	Texts   []gen1Text `json:"text_array"`
	// The second generation's members stay beside them: a client taken for the first in error finds what it needs.
	ThreadID int64             `json:"thread_id"`
	Chats    []wire.PushedText `json:"chat_datas,omitempty"`
}

type gen1Text struct {
	Content string `json:"content"`
	MsgID   string `json:"msgid"`
}

func firstGeneration(b *wire.TextPush) gen1Push {
	out := gen1Push{FromUID: b.FromUID, ToUID: b.ToUID, ThreadID: b.ThreadID, Chats: b.Chats}
	for _, t := range b.Chats {
		out.Texts = append(out.Texts, gen1Text{t.Content, t.UniqueID})
	}
	return out
}

// encode returns the frame of v; nil if it does not fit one, which the bounds above exclude.
func encode(id wire.MsgID, v any) []byte {
	body, err := wire.Encode(v)
	if err != nil {
		return nil
	}
	frame, err := wire.AppendFrame(nil, id, body)
	if err != nil {
		return nil
	}
	return frame
}
