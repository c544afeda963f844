package handler

import (
	"parley/internal/history"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

const (
	stockThreads = 50  // a page for a stock client, which asks for the next by itself
	nativePage   = 500 // what a native client may ask for
)

// pageLimit returns the page a client gets for the limit it asked for.
func pageLimit(s *session.Session, asked, usual int) int {
	if !s.Native() || asked <= 0 {
		return usual
	}
	return min(asked, nativePage)
}

// pageBytes returns how many bytes of content a page may hold: history.StockBytes for a stock client, for a native one as many as it
// may send, up to 32 KiB. A page holds at least one row, so it can exceed this by the largest text in escapes, 24 KiB.
func (d *Deps) pageBytes(s *session.Session) int {
	if s.Native() {
		return min(max(history.StockBytes, d.MaxFrameBytes), 32<<10)
	}
	return history.StockBytes
}

// hidden reports whether a client must not see a thread: one that does not know groups would take it for a private one.
func hidden(s *session.Session, t *store.Thread) bool {
	return t.Type != store.ThreadPrivate && !s.Groups()
}

// fitting returns how many threads of a list fit into a frame, with the largest numbers and marks.
func fitting(list []store.Thread) int {
	const element, ofGroup, room = 208, 96, wire.MaxBody - 128
	used := 0
	for i := range list {
		used += element
		if list[i].Type != store.ThreadPrivate {
			used += ofGroup + wire.StringLen(list[i].Name)
		}
		if used > room {
			return i
		}
	}
	return len(list)
}

// viewOf returns what a session is shown of the rows of a thread.
func viewOf(s *session.Session) history.View {
	return history.View{UID: s.UID(), Rows: s.Shown(wire.FeatureRows), Stock: !s.Native()}
}

// leaveOut ends a page before a number: what follows, the client has been sent already.
func leaveOut(page *wire.HistoryReply, after, from int64) {
	for i := range page.Chats {
		if page.Chats[i].MsgID < from {
			continue
		}
		page.Chats, page.LoadMore, page.LastID = page.Chats[:i], false, after
		if i > 0 {
			page.LastID = page.Chats[i-1].MsgID
		}
		return
	}
}
