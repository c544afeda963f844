package watch

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"sync"

	"parley/internal/batch"
	"parley/internal/session"
	"parley/internal/wire"
)

// change says that watcher's right to see of may have changed; with watcher 0, everyone's right.
type change struct{ of, watcher int32 }

// news collects what the other nodes are to be told.
type news struct {
	mu     sync.Mutex // guards the following
	uids   map[int32]struct{}
	rights map[change]struct{}
	all    again
	owed   map[string]again // by node: what the node must read again because it may have missed news
	linked map[string]struct{}
}

// again is a set of what a node must read again.
type again byte

const (
	againUsers  again = 1 << iota // the presence of all users
	againRights                   // all rights to see users
)

func (n *news) init() {
	n.uids, n.rights = make(map[int32]struct{}), make(map[change]struct{})
	n.owed, n.linked = make(map[string]again), make(map[string]struct{})
}

// changed adds users to the news. Beyond limit it replaces them by one request to read all users, which bounds the
// message.
func (n *news) changed(uids []int32, limit int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, uid := range uids {
		if n.all&againUsers != 0 {
			return
		}
		n.uids[uid] = struct{}{}
		if len(n.uids) > limit {
			n.all |= againUsers
			clear(n.uids)
		}
	}
}

// rightsChanged adds a change of rights to the news, within the same kind of limit.
func (n *news) rightsChanged(c change, limit int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.all&againRights != 0 {
		return
	}
	n.rights[c] = struct{}{}
	if len(n.rights) > limit {
		n.all |= againRights
		clear(n.rights)
	}
}

// takeNews removes and returns the news for all nodes, nil if there are none, and returns what single nodes must read
// again. A node linked since the last call must read everything.
func (n *news) takeNews(nodes []string) (body []byte, owed map[string]again) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, node := range nodes {
		if _, known := n.linked[node]; !known {
			n.linked[node] = struct{}{}
			n.owed[node] = againUsers | againRights
		}
	}
	known := func(node string) bool { return slices.Contains(nodes, node) }
	maps.DeleteFunc(n.linked, func(node string, _ struct{}) bool { return !known(node) })
	maps.DeleteFunc(n.owed, func(node string, _ again) bool { return !known(node) })
	if len(n.uids)+len(n.rights) > 0 || n.all != 0 {
		body = encodeNews(n.all, n.uids, n.rights)
		clear(n.uids)
		clear(n.rights)
		n.all = 0
	}
	return body, maps.Clone(n.owed)
}

// owe records that a node may have missed news.
func (n *news) owe(node string, what again) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.owed[node] |= what
}

// paid records that a node was told to read again. What is owed later stays owed.
func (n *news) paid(node string, what again) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.owed[node] &^= what; n.owed[node] == 0 {
		delete(n.owed, node)
	}
}

// sendNews sends changes to the other nodes until Close.
func (w *Watches[C]) sendNews() {
	for w.sleep(w.cfg.News) {
		if p := batch.Try(w.sendOnce); p != nil {
			w.panicked(p)
		}
	}
}

// sendOnce sends the collected news to each node, and what single nodes are owed.
func (w *Watches[C]) sendOnce() {
	nodes := w.d.Nodes()
	body, owed := w.news.takeNews(nodes)
	for _, node := range nodes {
		if what := owed[node]; what != 0 {
			// Mark it paid before sending: if the message is lost, Lost may owe it again at once, and that must not
			// be overwritten.
			w.news.paid(node, what)
			if !w.send(node, encodeNews(what, nil, nil)) {
				w.news.owe(node, what)
			}
		}
		if body != nil && !w.send(node, body) {
			w.news.owe(node, missed(body))
		}
	}
}

func (w *Watches[C]) send(node string, body []byte) bool {
	if !w.d.Forward(node, &session.Push{ID: wire.MsgOnline, Body: body}) {
		return false
	}
	w.metrics.sent.Inc()
	return true
}

// Lost records that news queued for a node may not have arrived.
func (w *Watches[C]) Lost(node string, p *session.Push) {
	w.metrics.lost.Inc()
	w.news.owe(node, missed(p.Body))
}

// Receive handles news from another node.
func (w *Watches[C]) Receive(p *session.Push) {
	what, uids, rights, err := decodeNews(p.Body)
	if err != nil {
		w.log.Warn("malformed news from another node", "err", err)
		what = againUsers | againRights
	}
	w.metrics.received.Inc()
	if what&againUsers != 0 {
		w.All()
	}
	if what&againRights != 0 {
		w.recheckAll()
	}
	w.soil(uids)
	w.recheck(rights)
}

// missed returns what a node that has missed the given news must read again.
func missed(body []byte) (what again) {
	what, uids, rights, err := decodeNews(body)
	if err != nil {
		return againUsers | againRights
	}
	if len(uids) > 0 {
		what |= againUsers
	}
	if len(rights) > 0 {
		what |= againRights
	}
	return what
}

var errNews = errors.New("watch: malformed news")

// encodeNews encodes what to read again, the number of users, the users, and the changes of rights.
func encodeNews(what again, uids map[int32]struct{}, rights map[change]struct{}) []byte {
	b := make([]byte, 0, 5+4*len(uids)+8*len(rights))
	b = binary.BigEndian.AppendUint32(append(b, byte(what)), uint32(len(uids)))
	for uid := range uids {
		b = binary.BigEndian.AppendUint32(b, uint32(uid))
	}
	for c := range rights {
		b = binary.BigEndian.AppendUint32(b, uint32(c.of))
		b = binary.BigEndian.AppendUint32(b, uint32(c.watcher))
	}
	return b
}

// decodeNews is the inverse of encodeNews. It checks the lengths first, so that a malformed message cannot make it
// read out of bounds.
func decodeNews(b []byte) (what again, uids []int32, rights []change, err error) {
	if len(b) < 5 {
		return 0, nil, nil, errNews
	}
	what, n, b := again(b[0]), uint64(binary.BigEndian.Uint32(b[1:])), b[5:]
	if n > uint64(len(b)/4) || (len(b)-int(n)*4)%8 != 0 {
		return 0, nil, nil, errNews
	}
	for ; n > 0; n-- {
		uids, b = append(uids, int32(binary.BigEndian.Uint32(b))), b[4:]
	}
	for ; len(b) > 0; b = b[8:] {
		rights = append(rights, change{int32(binary.BigEndian.Uint32(b)), int32(binary.BigEndian.Uint32(b[4:]))})
	}
	return what, uids, rights, nil
}
