package swarm

import (
	"strconv"
	"time"

	"parley/internal/wire"
)

// view is what a user was told about its friends, the other users of its circle.
type view struct {
	told   []bool // whether each user of the circle is online, as told last
	known  bool   // the states were told in this session
	wrong  int    // number of friends who are not as told
	right  int64  // when wrong last became 0
	asked  int64  // when the states were asked for in this session
	frames int64  // number of 2153s in this session
}

// rewatch is the pause before a refused 2151 is repeated.
const rewatch = 200 * time.Millisecond

// circle returns the users of a user's circle.
func (s *Swarm) circle(i int) (from, to int) {
	m := s.cfg.Rooms.Members
	return i - i%m, i - i%m + m
}

// turned records that a user went online or offline.
func (s *Swarm) turned(i int, online bool) {
	if s.views == nil {
		return
	}
	now := s.loop.Now()
	s.st.counters["changes"]++
	s.turns[i], s.views[i].known = now, false
	from, to := s.circle(i)
	for j := from; j < to; j++ {
		v := &s.views[j]
		if !v.known {
			continue
		}
		if v.told[i-from] != online {
			v.wrong++
		} else if v.wrong--; v.wrong == 0 {
			v.right = now
		}
	}
	if online {
		s.watch(i)
	}
}

// watch asks for the presence of a user's friends.
func (s *Swarm) watch(i int) {
	u := &s.users[i]
	if u.state != in {
		return
	}
	b := append(s.buf[:0], 0, 0, 0, 0)
	b = append(b, `{"uids":[`...)
	from, to := s.circle(i)
	for j := from; j < to; j++ {
		if j != i {
			b = append(strconv.AppendInt(b, int64(s.uid(j)), 10), ',')
		}
	}
	s.views[i].asked, s.views[i].frames = s.loop.Now(), 0
	u.conn.Send(s.framed(append(b[:len(b)-1], ']', '}'), wire.MsgWatch))
}

// watchReply handles a 2152.
func (s *Swarm) watchReply(i int, body []byte) {
	var rsp wire.WatchReply
	err := wire.Decode(body, &rsp)
	switch {
	case s.views == nil || err != nil:
		s.st.fail("an unexpected 2152")
		return
	case rsp.Error != 0:
		s.st.counters["watches refused"]++
		if r := s.phase; r != nil {
			r.later = append(r.later, later{s.loop.Now() + int64(rewatch), func() { s.watch(i) }})
		}
		return
	}
	v := &s.views[i]
	from, to := s.circle(i)
	if v.told == nil {
		v.told = make([]bool, to-from)
	}
	clear(v.told)
	v.wrong = 0
	known := 0
	for _, state := range rsp.States {
		j := s.friend(i, state.UID)
		if j < 0 {
			continue
		}
		known++
		v.told[j-from] = state.Online
		if state.Online != (s.users[j].state == in) {
			v.wrong++
		}
	}
	if v.known = known == to-from-1; !v.known {
		s.st.counters["wrong states"]++
		s.st.fail("a 2152 without all friends")
	}
	v.right = s.loop.Now()
}

// friend returns a user whose state another one was told, or -1 if it did not ask for that.
func (s *Swarm) friend(i int, uid int32) int {
	j := int(uid-s.cfg.FirstUID) - s.first
	if from, to := s.circle(i); j < from || j >= to || j == i {
		s.st.counters["wrong states"]++
		s.st.fail("the presence of a user who is not watched")
		return -1
	}
	return j
}

// onlinePush handles a 2153.
func (s *Swarm) onlinePush(i int, body []byte) {
	var push wire.OnlinePush
	v := (*view)(nil)
	if s.views != nil {
		v = &s.views[i]
	}
	if v == nil || !v.known || wire.Decode(body, &push) != nil {
		s.st.fail("an unexpected 2153")
		return
	}
	now := s.loop.Now()
	// A node sends one 2153 per second. This holds from the request on, however late the frames arrive.
	if v.frames++; v.frames > 1+(now-v.asked)/int64(time.Second) {
		s.st.counters["frames too many"]++
	}
	s.st.counters["presence frames"]++
	s.st.counters["presence states"] += int64(len(push.States))
	from, _ := s.circle(i)
	for _, state := range push.States {
		j := s.friend(i, state.UID)
		if j < 0 || v.told[j-from] == state.Online {
			continue // the time of the last session may have changed
		}
		v.told[j-from] = state.Online
		if state.Online != (s.users[j].state == in) {
			v.wrong++
			continue
		}
		v.wrong--
		if r := s.phase; r != nil && s.turns[j] >= r.measureFrom {
			s.st.hist(HTold).Record(now - s.turns[j])
		}
	}
	if v.wrong == 0 {
		v.right = now
	}
}

// isRight reports whether a user who is online knows the truth about its friends.
func (s *Swarm) isRight(i int) bool {
	v := &s.views[i]
	return s.users[i].state != in || v.known && v.wrong == 0
}

// allRight reports whether all users know the truth about their friends.
func (s *Swarm) allRight() bool {
	for i := range s.views {
		if !s.isRight(i) {
			return false
		}
	}
	return true
}

// lookAtViews counts at the end of a phase who knows the truth, and records since when.
func (s *Swarm) lookAtViews(r *running) {
	for i := range s.views {
		switch {
		case s.users[i].state != in:
		case !s.isRight(i):
			s.st.counters["views wrong"]++
		default:
			s.st.counters["views right"]++
			if r.Kind == "storm" {
				s.st.rightAt = append(s.st.rightAt, float64(max(s.views[i].right-r.start, 0))/1e9)
			}
		}
	}
}
