package swarm

import (
	"time"
)

// done counts a completed operation with its latency in ns from its planned time.
func (r *running) done(ns int64) {
	r.s.st.now.Done++
	r.s.st.recent.Record(ns)
	r.s.fleet.live.done.Add(1)
}

// completed records that a user's TCP connection is established, if that is the goal.
func (r *running) completed(i int, ns int64) {
	r.inflight--
	r.finished++
	r.done(ns)
	if r.Again {
		r.leave(i)
	}
}

// loggedIn records that a user has logged in.
func (r *running) loggedIn(i int, ns int64) {
	switch r.Kind {
	case "found", "join":
		r.s.rooms.enter(i)
	case "login":
		r.inflight--
		r.finished++
		r.done(ns)
		if r.Again {
			r.leave(i)
		}
	case "churn":
		r.inflight = max(r.inflight-1, 0)
		r.done(ns)
	case "storm":
		r.finished++
		r.done(ns)
		r.s.st.backAt = append(r.s.st.backAt, float64(r.s.loop.Now()-r.start)/1e9)
	}
}

// leave disconnects a user, so that the same user can log in again.
func (r *running) leave(i int) { r.s.users[i].conn.Close(true) }

// lost records that a connection was lost.
func (r *running) lost(int) {
	if r.Kind == "found" || r.Kind == "join" {
		r.inflight--
		r.finished++
	}
}

// givenUp records that a user will make no more attempts.
func (r *running) givenUp(_ int) {
	r.s.st.counters["given up"]++
	switch r.Kind {
	case "connect", "login", "churn", "found", "join":
		r.inflight = max(r.inflight-1, 0)
		r.finished++
	case "storm":
		r.finished++
	}
}

// answered keeps a closed loop of texts going.
func (r *running) answered(n int) {
	if r.Kind != "chat" || r.Concurrency == 0 {
		return
	}
	now := r.s.loop.Now()
	for range n {
		if now < r.end && !r.stopping {
			r.inflight++
			r.s.texts.plan(r.turn(), now) // in turn, so that no user exceeds the nodes' per-user limit
		}
	}
}

// over reports whether the phase has ended.
func (r *running) over(now int64) bool {
	switch r.Kind {
	case "hold":
		return r.stopping || now >= r.end
	case "close":
		return true
	case "storm":
		back := r.finished >= r.goal || r.For > 0 && now >= r.end
		return r.stopping || back && r.toldAll(now)
	case "threads", "verify":
		if r.stopping {
			return true
		}
		if r.inflight > 0 || r.next < r.goal-1 {
			return r.late(now)
		}
		if r.Kind == "verify" && !r.failed {
			r.s.book.ReadAll()
		}
		return true
	case "connect", "login", "found", "join":
		if r.clock == nil && !r.Again {
			return r.stopping || r.finished >= r.goal
		}
	}
	running := r.clock != nil && r.dueOK || r.clock == nil && now < r.end
	if running && !r.stopping {
		return false
	}
	if r.deadline == 0 {
		r.deadline = now + int64(r.Patience)
	}
	settled := r.inflight <= 0 && (r.stopping || r.s.views.allRight())
	if r.Kind == "chat" {
		n := r.s.book.Counts()
		settled = n.Acked+n.Refused >= n.Planned && n.Delivered >= n.Acked && r.s.book.Settled()
		if !settled && n.Acked+n.Refused >= n.Planned && !r.answeredAll {
			// Only pushes are missing. Those to users who lost their connections never arrive.
			r.answeredAll = true
			r.deadline = min(r.deadline, now+int64(deliveryGrace))
		}
	}
	return settled || now >= r.deadline
}

// toldAll reports whether all users know the truth about their friends, or Patience has passed.
func (r *running) toldAll(now int64) bool {
	if r.deadline == 0 {
		r.deadline = now + int64(r.Patience)
	}
	return r.s.views.allRight() || now >= r.deadline
}

// late ends phases that only wait for answers.
func (r *running) late(now int64) bool {
	if now-r.start < int64(2*time.Minute) {
		return false
	}
	r.failed = true
	return true
}
