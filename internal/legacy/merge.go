package legacy

import "parley/internal/wire"

// maxMerged bounds the body of merged texts. llfcchat's servers cannot send more, so its clients were never tested with
// more.
const maxMerged = 32000

// textsLocked removes the text push at i and all later ones of the same thread and sender that fit into one frame. It
// leaves out texts that the client has from history, and returns the frame, or nil if nothing is left.
func (p *Policy) textsLocked(i int) []byte {
	first := p.held.pushes[i]
	served := p.servedLocked(first.Thread)
	var merged wire.TextPush
	size, whole := 0, true // whole: the frame holds all texts of the first push, and no others
	for j := i; j < len(p.held.pushes); {
		at := &p.held.pushes[j]
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
		p.held.drop(j)
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
		if frame == nil { // a single long push whose texts are in the frame twice
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
	// Send the body unchanged: either nothing was left out, or it is one long push that no longer fits when encoded
	// again.
	frame, err := wire.AppendFrame(nil, wire.MsgTextPush, first.Body)
	if err != nil {
		return nil
	}
	return frame
}

// encodedLen returns an upper bound for the length of an encoded push.
func encodedLen(b *wire.TextPush) int {
	n := 128
	for i := range b.Chats {
		n += 192 + wire.StringLen(b.Chats[i].Content) + wire.StringLen(b.Chats[i].UniqueID)
	}
	return n
}

// gen1Push is the first generation's form of a 1019.
type gen1Push struct {
	Error   wire.Code  `json:"error"`
	FromUID int32      `json:"fromuid"`
	ToUID   int32      `json:"touid"`
	Texts   []gen1Text `json:"text_array"`
	// The second generation's members are included, for a client mistaken for first generation.
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

// encode returns the frame of v, or nil if it does not fit into one. The bounds above rule that out.
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
