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

// beats are the users' heartbeats.
type beats struct {
	*shared
	at  int64 // next turn of the wheel
	pos int
}

// due sends the heartbeats that are due. Each user has a fixed place on the wheel, so no timers are needed. The
// wheels of all generators of a machine turn at the same moments. Otherwise 57 nodes and 57 generators on two cores
// would be woken for each single heartbeat, which costs several times as much as the heartbeat.
func (bs *beats) due(now int64) int64 {
	if bs.speakers != nil {
		return never // foreign servers ask for signs of life
	}
	step, steps := bs.cfg.wheel()
	if bs.at == 0 {
		bs.at = now + step - time.Now().UnixNano()%step
	}
	for bs.at <= now {
		for i := bs.pos; i < len(bs.users); i += steps {
			if u := &bs.users[i]; u.state == in && !u.muted {
				bs.ping(i, ping{sent: now})
			}
		}
		bs.pos = (bs.pos + 1) % steps
		bs.at += step
	}
	return bs.at
}

func (bs *beats) ping(i int, p ping) {
	u := &bs.users[i]
	u.pings = append(u.pings, p)
	b := append(bs.buf[:0], 0, 0, 0, 0)
	b = append(strconv.AppendInt(append(b, `{"fromuid":`...), int64(bs.uid(i)), 10), '}')
	u.conn.Send(bs.framed(b, wire.MsgHeartbeat))
}

func (bs *beats) pong(u *user) {
	if len(u.pings) == 0 {
		bs.st.fail("an unexpected 1024")
		return
	}
	p := u.pings[0]
	if len(u.pings) == 1 {
		if u.pings = u.pings[:0]; bs.phase == nil || bs.phase.Kind != "ping" {
			u.pings = nil
		}
	} else {
		u.pings = u.pings[1:]
	}
	now := bs.loop.Now()
	bs.st.counters["heartbeats"]++
	if p.planned == 0 {
		return
	}
	if r := bs.phase; r != nil && r.Kind == "ping" {
		r.inflight--
		if !p.warm {
			bs.st.hist(HPing).Record(now - p.planned)
			bs.st.hist(HPingService).Record(now - p.sent)
		}
		r.done(now - p.planned)
	}
}
