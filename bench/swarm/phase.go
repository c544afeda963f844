package swarm

import (
	"time"

	"parley/bench/engine"
	"parley/bench/schedule"
)

// deliveryGrace bounds the wait for pushes after the last acknowledgement; a healthy cluster needs milliseconds.
const deliveryGrace = 3 * time.Second

func engineNow() int64 { return engine.Clock() }

// running is a phase in progress on one loop.
type running struct {
	Phase
	s       *Swarm
	results chan<- *Outcome

	start       int64 // time from which seconds count
	measureFrom int64 // earlier planned times belong to the warm-up
	end         int64 // of the load
	deadline    int64 // for answers after the load; 0 while the load runs

	clock    *schedule.Clock // nil in a closed loop
	base     int64           // zero of the clock
	warmBase *schedule.Clock
	due      int64
	dueOK    bool

	next      int // next user or pair
	order     []int32
	churn     *schedule.Clock // for the users who do not chat, during a chat load
	churnAt   int64
	churnOK   bool
	idle      []int32
	inflight  int
	delivered int64
	finished  int // users who have reached the goal of the phase, or were given up
	goal      int
	failed    bool
	stopping  bool
	// answeredAll means that only deliveries are missing.
	answeredAll bool
	later       []later // by time
	removeAt    int64   // when to start removing members of groups; 0: not, or already started
}

type later struct {
	at int64
	do func()
}

// begin starts a phase; when it has ended, its outcome is sent to results.
func (s *Swarm) begin(p Phase, results chan<- *Outcome) {
	s.st = newStats()
	r := &running{Phase: p, s: s, results: results}
	s.phase = r
	r.start = engine.ClockAt(p.StartAt)
	s.st.fine, s.st.start = p.Fine, r.start
	now := max(engine.Clock(), r.start)
	r.measureFrom = now + int64(p.Warmup)
	s.logins.closing = false
	length := p.For
	if len(p.Load.Rates) > 0 && p.Concurrency == 0 {
		r.clock = p.Load.Clock()
		length = p.Load.For
		if p.Warmup > 0 {
			warm := p.Load
			warm.Shape, warm.Rates, warm.For = schedule.Constant, []float64{p.Load.RateAt(0)}, p.Warmup
			r.warmBase = warm.Clock()
		}
		r.base = now
		r.nextDue()
	}
	r.end = r.measureFrom + int64(length)
	if p.Remove > 0 {
		r.removeAt = r.measureFrom + int64(length)/2
	}
	r.goal = len(s.users)
	if p.Users > 0 {
		// The number is for the whole fleet and is divided like the users.
		all := s.cfg.Users
		n := min(p.Users, all)
		r.goal = (s.first+len(s.users))*n/all - s.first*n/all
	}
	switch p.Kind {
	case "ping", "chat", "churn", "fan":
		for i := range s.users {
			if u := &s.users[i]; u.state == in && (p.Kind != "chat" || u.chat != nil) {
				r.order = append(r.order, int32(i))
			}
		}
		s.rng.Shuffle(len(r.order), func(i, j int) { r.order[i], r.order[j] = r.order[j], r.order[i] })
		if len(r.order) == 0 {
			s.st.fail("no user is logged in, or no user has a partner")
			r.end = now
			r.clock = nil
		}
		if p.Kind == "chat" && len(p.Churn.Rates) > 0 {
			for i := range s.users {
				if u := &s.users[i]; u.state == in && u.chat == nil {
					r.idle = append(r.idle, int32(i))
				}
			}
			if len(r.idle) > 0 {
				r.churn = p.Churn.Clock()
				at, ok := r.churn.Next()
				r.churnAt, r.churnOK = now+at, ok
			}
		}
		if p.Kind == "chat" && p.Concurrency > 0 {
			for k := range p.Concurrency {
				r.inflight++
				s.texts.plan(int(r.order[k%max(len(r.order), 1)]), now)
			}
		}
	case "verify":
		if p.Entered {
			r.next = len(s.users) // there is nothing to request
		}
	case "storm":
		s.logins.storm(now)
	case "close":
		s.logins.closeAll()
	case "hold":
		for i := 0; i < len(s.users) && p.Mute > 0; i++ {
			if u := &s.users[i]; u.state == in {
				u.conn.Mute()
				u.muted = true
				p.Mute--
			}
		}
	}
}

// cut ends the load of the running phase early.
func (s *Swarm) cut() {
	if r := s.phase; r != nil {
		r.stopping = true
	}
}

func (r *running) nextDue() {
	if r.warmBase != nil {
		if at, ok := r.warmBase.Next(); ok {
			r.due, r.dueOK = r.base+at, true
			return
		}
		r.warmBase = nil
		r.base = r.measureFrom
	}
	at, ok := r.clock.Next()
	r.due, r.dueOK = r.base+at, ok
}

// tick does what is due and returns when it must be called next.
func (r *running) tick(now int64) int64 {
	r.s.st.turnTenth(now, int64(r.s.logins.online))
	second := int((now - r.start) / int64(time.Second))
	if r.s.st.now.Second < second {
		r.s.p99.Store(r.s.st.recent.Quantile(.99))
		r.s.fleet.live.wrong.Add(r.s.st.now.Wrong)
		r.s.st.turn(second, int64(r.s.logins.online))
	}
	next := r.start + int64(second+1)*int64(time.Second)
	if now < r.start {
		return r.start
	}
	if r.Fine {
		next = min(next, r.start+(int64(len(r.s.st.tenths))+1)*tenth)
	}
	if !r.stopping {
		next = min(next, r.load(now))
	}
	for len(r.later) > 0 && r.later[0].at <= now {
		r.later[0].do()
		r.later = r.later[1:]
	}
	if len(r.later) > 0 {
		next = min(next, r.later[0].at)
	}
	if r.over(now) {
		r.s.phase = nil
		if n := int64(r.inflight); n > 0 && (r.Kind == "ping" || r.Kind == "churn") {
			r.s.st.counters["unfinished"] += n
			r.s.st.errors["no answer when the patience ended"] += n
		}
		if r.Kind == "join" {
			r.s.rooms.open()
		}
		if r.Kind == "chat" {
			r.s.rooms.spreads(r.measureFrom)
		}
		if r.Kind != "close" {
			r.s.views.count(r)
		}
		o := r.s.st.outcome(float64(now-r.start)/1e9, int64(r.s.logins.online))
		o.Ledger = r.s.book.Summary()
		r.results <- o
		r.s.st = newStats()
		return now
	}
	return next
}

// load starts the operations that are due and returns when the next one is.
func (r *running) load(now int64) int64 {
	if r.churn != nil {
		for r.churnOK && r.churnAt <= now {
			i := int(r.idle[r.s.rng.IntN(len(r.idle))])
			if u := &r.s.users[i]; u.state == in {
				r.s.logins.leaveAndReturn(i, r.churnAt)
			}
			at, ok := r.churn.Next()
			r.churnAt, r.churnOK = r.measureFrom-int64(r.Warmup)+at, ok
		}
	}
	if r.removeAt != 0 && now >= r.removeAt {
		r.removeAt = 0
		r.s.rooms.expelSome(r.Remove)
	}
	if next := r.loadMain(now); !r.churnOK || next < r.churnAt {
		return next
	}
	return r.churnAt
}

func (r *running) loadMain(now int64) int64 {
	if r.clock != nil {
		for r.dueOK && r.due <= now {
			r.s.st.hist(HLag).Record(now - r.due)
			r.s.st.now.Offered++
			r.s.fleet.live.offered.Add(1)
			r.operate(r.due)
			r.nextDue()
		}
		if r.dueOK {
			return r.due
		}
		return never
	}
	switch r.Kind {
	case "connect", "login", "found", "join":
		for r.inflight < max(r.Concurrency, 1) && (r.next < r.goal || r.Again && now < r.end) {
			before := r.inflight
			r.operate(now)
			if r.inflight > before {
				r.s.st.now.Offered++
			} else if r.Again {
				return now + int64(10*time.Millisecond) // all users are logging in
			}
		}
	case "ping", "fan":
		for r.inflight < r.Concurrency && now < r.end && len(r.order) > 0 {
			before := r.inflight
			r.operate(now)
			if r.inflight == before {
				return now + int64(10*time.Millisecond) // a user is not logged in
			}
			r.s.st.now.Offered++
		}
	case "threads":
		for r.inflight < 64 && r.next+1 < r.goal {
			switch i := r.next; {
			case r.s.users[i].state != in || r.s.users[i+1].state != in || r.s.users[i].chat != nil:
			case r.s.speakers != nil:
				r.s.histories.pair(i, int64(r.s.uid(i)), 0) // there is nothing to ask
			default:
				r.inflight++
				r.s.histories.askThread(i)
			}
			r.next += 2
		}
	case "verify":
		for r.inflight < 64 && r.next < len(r.s.users) {
			if u := &r.s.users[r.next]; u.chat != nil && u.chat.partner > r.next {
				if u.state == in {
					r.inflight++
					u.chat.reading = true
					r.s.histories.askHistory(r.next)
				} else {
					r.failed = true
				}
			}
			r.next++
		}
	}
	return never
}

// operate starts the operation that was due at planned.
func (r *running) operate(planned int64) {
	switch r.Kind {
	case "connect", "login", "found", "join":
		if r.next >= len(r.s.users) && !r.Again {
			return
		}
		i := r.next % len(r.s.users)
		r.next++
		// A user who is still logging in cannot start again: take the next one.
		for n := 0; r.Again && r.s.users[i].state != out; n++ {
			if n == len(r.s.users) && r.clock == nil {
				return
			} else if n == len(r.s.users) {
				r.s.st.fail("everybody is busy: more --users are needed for this rate")
				return
			}
			i = r.next % len(r.s.users)
			r.next++
		}
		if u := &r.s.users[i]; u.state == in && r.Kind == "login" || r.skips(i) {
			r.finished++ // already reached in an earlier phase, or not part of this one
		} else if u.state == out {
			r.inflight++
			u.tries = 0
			if r.s.logins.stale(u, engine.Clock()) {
				u.spent = true
			}
			if u.spent && r.Kind != "connect" {
				u.planned, u.state = planned, waiting
				r.s.logins.tryAgain(i)
				return
			}
			r.s.logins.connect(i, planned)
		}
	case "ping":
		i := r.turn()
		if u := &r.s.users[i]; u.state == in {
			r.inflight++
			r.s.beats.ping(i, ping{planned, engine.Clock(), planned < r.measureFrom})
		} else {
			r.s.st.fail("not logged in when its turn came")
		}
	case "chat":
		r.inflight++
		r.s.texts.plan(r.turn(), planned)
	case "fan":
		r.inflight++
		r.s.rooms.fan(r.turn(), planned)
	case "churn":
		i := r.turn()
		if u := &r.s.users[i]; u.state == in {
			r.inflight++
			r.s.logins.leaveAndReturn(i, planned)
		}
	}
}

func (r *running) turn() int {
	i := r.order[r.next%len(r.order)]
	r.next++
	return int(i)
}
