package membership

import "time"

// Settled reports whether the Redis data with generation id gen knows all sessions: this node has extended its lease
// in it, and it is old enough for all nodes to have written their sessions back.
func (m *Member) Settled(gen string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return gen != "" && gen == m.gen && !time.Now().Before(m.genFrom)
}
