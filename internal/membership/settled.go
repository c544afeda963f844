package membership

import "time"

// youngRedis is how long logins wait after Redis lost its data, while the nodes write their sessions back.
const youngRedis = 6 * time.Second

// Settled reports whether the Redis data with generation id gen knows all sessions: this node has extended its lease
// in it, and it is old enough for all nodes to have written their sessions back.
func (m *Member) Settled(gen string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return gen != "" && gen == m.gen && !time.Now().Before(m.genFrom)
}

// noteGenerationLocked reports whether Redis lost its data since the last call.
func (m *Member) noteGenerationLocked(gen string, ageMS int64) (lost bool) {
	if gen == m.gen {
		return false
	}
	lost = m.gen != ""
	m.gen = gen
	if wait := youngRedis - time.Duration(ageMS)*time.Millisecond; wait > 0 {
		m.genFrom = time.Now().Add(wait)
	}
	return lost
}
