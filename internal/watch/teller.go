package watch

import (
	"time"

	"parley/internal/batch"
	"parley/internal/session"
	"parley/internal/wire"
)

// teller tells sessions what has changed. It is one goroutine.
type teller[C Client] struct {
	*shared
	table *table[C]
	wake  chan struct{} // holds a token while sessions may have changes
}

// tellEvery is the interval at which sessions waiting for their next frame are checked.
const tellEvery = 20 * time.Millisecond

// step tells the sessions whose next frame is due.
func (t *teller[C]) step() (rest time.Duration) {
	due, waits := t.table.untold.due(nil, time.Now())
	for _, mine := range due {
		if p := batch.Try(func() { t.tell(mine) }); p != nil {
			t.panicked(p)
		}
	}
	if waits || len(due) > 0 {
		return tellEvery
	}
	return 0
}

// tell sends a session the states that differ from what it was told.
func (t *teller[C]) tell(mine *watcher[C]) {
	untold := &t.table.untold
	mine.out.Lock()
	defer mine.out.Unlock()
	if mine.client.Queued() > t.cfg.Backlog {
		t.metrics.delayed.Inc()
		untold.later(mine, time.Now().Add(t.cfg.Spacing))
		return
	}
	states := untold.differ(mine, time.Now().Add(t.cfg.Spacing))
	if len(states) == 0 {
		return
	}
	t.metrics.frames.Inc()
	t.metrics.states.Add(float64(len(states)))
	body := wire.AppendOnlinePush(make([]byte, 0, 16+56*len(states)), states)
	_ = mine.client.Push(&session.Push{To: mine.client.UID(), ID: wire.MsgOnline, Body: body}) // an error means that the session has ended
}
