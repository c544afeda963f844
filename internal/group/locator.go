package group

import (
	"context"
	"slices"
	"sync"

	"parley/internal/session"
	"parley/internal/wire"
)

// locator knows which other nodes have members of groups. It records the groups whose rows were sent while Redis could
// not say, and the nodes they were sent to. Any other node that turns out to have members gets a gap notice.
type locator struct {
	*shared

	mu    sync.Mutex // guards the following
	blind map[int64]blindGroup
	over  bool // too many groups: all sessions of all nodes get a notice instead
}

// maxBlind bounds the groups in locator.blind.
const maxBlind = 16384

// blindGroup is a group whose rows from first on were sent to some nodes.
type blindGroup struct {
	first int64
	sent  []string // shared; never modified
}

func newLocator(s *shared) *locator { return &locator{shared: s, blind: make(map[int64]blindGroup)} }

// locate returns the other nodes with members of groups. It removes obsolete entries, those of replaced lives, from
// Redis.
func (l *locator) locate(threads []int64) (nodes [][]string, sure bool, err error) {
	ctx, cancel := context.WithTimeout(l.ctx, l.cfg.Timeout/2)
	defer cancel()
	nodes, replaced, sure, err := l.d.Locate(ctx, threads)
	if err != nil {
		l.log.Debug("nodes of groups not read", "n", len(threads), "err", err)
		return nil, false, err
	}
	if len(replaced) > 0 {
		if err := l.d.Interest.Drop(ctx, replaced); err != nil {
			l.log.Debug("entries of earlier lives not dropped", "n", len(replaced), "err", err)
		}
	}
	return nodes, sure, nil
}

// note records that rows were sent to nodes. Of several calls for a group it keeps the nodes that were sent all rows.
func (l *locator) note(thread, first int64, sent []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, known := l.blind[thread]
	if known {
		first = min(first, at.first)
		if !slices.Equal(sent, at.sent) {
			sent = slices.DeleteFunc(slices.Clone(at.sent), func(n string) bool { return !slices.Contains(sent, n) })
		}
	} else if len(l.blind) >= maxBlind {
		l.over = true
		return
	}
	l.blind[thread] = blindGroup{first, sent}
}

// takeSome removes and returns some of the groups.
func (l *locator) takeSome() (threads []int64, groups []blindGroup, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for thread, at := range l.blind {
		if len(threads) == awayBatch {
			return threads, groups, false
		}
		delete(l.blind, thread)
		threads, groups = append(threads, thread), append(groups, at)
	}
	over, l.over = l.over, false
	return threads, groups, over
}

// settle sends gap notices to nodes with members that were not sent the rows that note recorded, once Redis knows these
// nodes.
func (l *locator) settle() {
	threads, groups, over := l.takeSome()
	if len(threads) == 0 {
		return
	}
	nodes, sure, err := l.locate(threads)
	for i, thread := range threads {
		if err != nil || !sure {
			l.note(thread, groups[i].first, groups[i].sent)
			continue
		}
		for _, node := range nodes[i] {
			if !slices.Contains(groups[i].sent, node) {
				l.d.Lost(node, &session.Push{ID: wire.MsgGap, Thread: thread, Seq: groups[i].first})
			}
		}
	}
	if over {
		l.d.Lost("", &session.Push{ID: wire.MsgGap})
	}
}
