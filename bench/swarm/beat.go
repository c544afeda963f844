package swarm

import (
	"strconv"
	"time"

	"parley/internal/wire"
)

// ping is an unanswered heartbeat. Answers arrive in the order of requests.
type ping struct {
	planned, sent int64 // planned 0: keeps the session alive and is not part of a load
	warm          bool  // part of a warm-up
}

// beatStep is the shortest step of the heartbeat wheel, and beatSteps the largest number of steps in a round. Users
// of one step send their heartbeats together.
const (
	beatStep  = 50 * time.Millisecond
	beatSteps = 480
)

// wheel returns the duration of a step of the heartbeat wheel and the number of steps in a round.
func (c *Config) wheel() (step int64, steps int) {
	step = max(int64(beatStep), int64(c.Heartbeat)/beatSteps)
	return step, int(int64(c.Heartbeat) / step)
}

// beat sends the heartbeats that are due. Each user has a fixed place on the wheel, so no timers are needed. The
// wheels of all generators of a machine turn at the same moments. Otherwise 57 nodes and 57 generators on two cores
// would be woken for each single heartbeat, which costs several times as much as the heartbeat.
func (s *Swarm) beat(now int64) int64 {
	if s.speakers != nil {
		return never // foreign servers ask for signs of life
	}
	step, steps := s.cfg.wheel()
	if s.beatAt == 0 {
		s.beatAt = now + step - time.Now().UnixNano()%step
	}
	for s.beatAt <= now {
		for i := s.beatPos; i < len(s.users); i += steps {
			if u := &s.users[i]; u.state == in && !u.muted {
				s.ping(i, ping{sent: now})
			}
		}
		s.beatPos = (s.beatPos + 1) % steps
		s.beatAt += step
	}
	return s.beatAt
}

func (s *Swarm) ping(i int, p ping) {
	u := &s.users[i]
	u.pings = append(u.pings, p)
	b := append(s.buf[:0], 0, 0, 0, 0)
	b = append(strconv.AppendInt(append(b, `{"fromuid":`...), int64(s.uid(i)), 10), '}')
	u.conn.Send(s.framed(b, wire.MsgHeartbeat))
}

func (s *Swarm) pong(u *user) {
	if len(u.pings) == 0 {
		s.st.fail("an unexpected 1024")
		return
	}
	p := u.pings[0]
	if len(u.pings) == 1 {
		if u.pings = u.pings[:0]; s.phase == nil || s.phase.Kind != "ping" {
			u.pings = nil
		}
	} else {
		u.pings = u.pings[1:]
	}
	now := s.loop.Now()
	s.st.counters["heartbeats"]++
	if p.planned == 0 {
		return
	}
	if r := s.phase; r != nil && r.Kind == "ping" {
		r.inflight--
		if !p.warm {
			s.st.hist(HPing).Record(now - p.planned)
			s.st.hist(HPingService).Record(now - p.sent)
		}
		r.done(s, now-p.planned)
	}
}
