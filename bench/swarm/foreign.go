package swarm

import (
	"parley/bench/foreign"
	"parley/bench/ledger"
)

// line is the connection of a user as its foreign.Speaker sees it.
type line struct {
	s    *Swarm
	user int
}

// learnToSpeak gives each user a client of the foreign server.
func (s *Swarm) learnToSpeak() {
	s.speakers = make([]foreign.Speaker, len(s.users))
	for i := range s.users {
		s.speakers[i] = s.cfg.Foreign.Speaker(s.uid(i), s.uid(i^1), line{s, i})
	}
}

// heard passes on what arrived.
func (s *Swarm) heard(i int, data []byte) {
	err := s.speakers[i].Heard(data)
	u := &s.users[i]
	if err == nil || u.conn == nil {
		return
	}
	s.st.fail(err.Error())
	if u.state == in {
		s.book.Disturb(s.uid(i))
	} else {
		u.tries = maxTries // a server that refuses a login would refuse the next
	}
	s.logins.drop(i, false)
}

// Send implements foreign.Line.
func (l line) Send(b []byte) {
	if c := l.s.users[l.user].conn; c != nil {
		c.Send(b)
	}
}

// LoggedIn implements foreign.Line.
func (l line) LoggedIn() {
	u := &l.s.users[l.user]
	if u.state != loggingIn {
		return
	}
	l.s.logins.entered(l.user)
	if c := u.chat; c != nil && u.state == in {
		// Texts that were unanswered when a connection ended stay so: the server could not tell them from others.
		c.inflight = 0
		l.s.texts.write(l.user)
	}
}

// Acked implements foreign.Line.
func (l line) Acked(counter uint32, number int64) {
	if c := l.s.users[l.user].chat; c != nil {
		l.s.texts.answered(l.user, l.s.texts.acked(c, counter, numberOf(counter, number)))
	}
}

// Refused implements foreign.Line.
func (l line) Refused(counter uint32, why string) {
	if c := l.s.users[l.user].chat; c != nil {
		l.s.texts.answered(l.user, l.s.texts.refused(c, counter, why))
	}
}

// Delivered implements foreign.Line.
func (l line) Delivered(number int64, content []byte) {
	c := l.s.users[l.user].chat
	if c == nil {
		return // of an earlier run
	}
	t, _, _ := ledger.ParseText(content) // the book finds what is wrong with it
	l.s.texts.delivered(l.user, l.s.uid(c.partner), c.thread, numberOf(t.Counter, number), content)
}

// Echoed implements foreign.Line.
func (l line) Echoed(counter uint32, content []byte) {
	c := l.s.users[l.user].chat
	if c == nil {
		return
	}
	l.s.texts.delivered(c.partner, l.s.uid(l.user), c.thread, numberOf(counter, 0), content)
	l.Acked(counter, 0)
}

// numberOf returns the number of a text: the server's own, or one that agrees everywhere if it gives none.
func numberOf(counter uint32, number int64) int64 {
	if number == 0 {
		return int64(counter) + 1
	}
	return number
}
