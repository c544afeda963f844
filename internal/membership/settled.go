package membership

import "time"

// Settled reports whether what a body of data in Redis says of where users are is all there is: it is the one that this
// node has been extending its lease in, and old enough for all nodes to have written their sessions into it.
func (m *Member) Settled(gen string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return gen != "" && gen == m.gen && !time.Now().Before(m.genFrom)
}
