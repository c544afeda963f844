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

// news tells the other nodes who came or went, and whose rights may have changed. It is one goroutine.
type news struct {
	*shared

	mu     sync.Mutex // guards the following
	uids   map[int32]struct{}
	rights map[change]struct{}
	all    again
	owed   map[string]again // by node: what the node must read again because it may have missed news
	linked map[string]struct{}
}

func newNews(s *shared) *news {
	return &news{
		shared: s, uids: make(map[int32]struct{}), rights: make(map[change]struct{}),
		owed: make(map[string]again), linked: make(map[string]struct{}),
	}
}

// again is a set of what a node must read again.
type again byte

const (
	againUsers  again = 1 << iota // the presence of all users
	againRights                   // all rights to see users
)

// changed adds users to the news. Beyond Config.MaxNews it replaces them by one request to read all users, which bounds the
// message.
func (n *news) changed(uids []int32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, uid := range uids {
		if n.all&againUsers != 0 {
			return
		}
		n.uids[uid] = struct{}{}
		if len(n.uids) > n.cfg.MaxNews {
			n.all |= againUsers
			clear(n.uids)
		}
	}
}

// rightsChanged adds a change of rights to the news, within the same kind of limit.
func (n *news) rightsChanged(c change) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.all&againRights != 0 {
		return
	}
	n.rights[c] = struct{}{}
	if len(n.rights) > n.cfg.MaxNews {
		n.all |= againRights
		clear(n.rights)
	}
}

// take removes and returns the news for all nodes, nil if there are none, and returns what single nodes must read
// again. A node linked since the last call must read everything.
func (n *news) take(nodes []string) (body []byte, owed map[string]again) {
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

// run sends changes to the other nodes until Close.
func (n *news) run() {
	for n.sleep(n.cfg.News) {
		if p := batch.Try(n.sendOnce); p != nil {
			n.panicked(p)
		}
	}
}

// sendOnce sends the collected news to each node, and what single nodes are owed.
func (n *news) sendOnce() {
	nodes := n.d.Nodes()
	body, owed := n.take(nodes)
	for _, node := range nodes {
		if what := owed[node]; what != 0 {
			// Mark it paid before sending: if the message is lost, Lost may owe it again at once, and that must not
			// be overwritten.
			n.paid(node, what)
			if !n.send(node, encodeNews(what, nil, nil)) {
				n.owe(node, what)
			}
		}
		if body != nil && !n.send(node, body) {
			n.owe(node, missed(body))
		}
	}
}

func (n *news) send(node string, body []byte) bool {
	if !n.d.Forward(node, &session.Push{ID: wire.MsgOnline, Body: body}) {
		return false
	}
	n.metrics.sent.Inc()
	return true
}

// lost records that news queued for a node may not have arrived.
func (n *news) lost(node string, body []byte) {
	n.metrics.lost.Inc()
	n.owe(node, missed(body))
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
