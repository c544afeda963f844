package membership

import "time"

// youngRedis is how long logins wait after Redis lost its data, while the nodes write their sessions back.
const youngRedis = 6 * time.Second

// A generation is what a node knows about the data in Redis.
type generation struct {
	id   string    // "" before the first extension of the lease
	from time.Time // from then on, all nodes have written their sessions back
}

// note reports whether Redis lost its data since the last call.
func (g *generation) note(id string, ageMS int64) (lost bool) {
	if id == g.id {
		return false
	}
	lost = g.id != ""
	g.id = id
	if wait := youngRedis - time.Duration(ageMS)*time.Millisecond; wait > 0 {
		g.from = time.Now().Add(wait)
	}
	return lost
}

// young reports whether sessions of other nodes may be missing in the data.
func (g *generation) young(now time.Time) bool { return now.Before(g.from) }

// Settled reports whether the Redis data with generation id gen knows all sessions: this node has extended its lease
// in it, and it is old enough for all nodes to have written their sessions back.
func (m *Member) Settled(gen string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return gen != "" && gen == m.data.id && !m.data.young(time.Now())
}
