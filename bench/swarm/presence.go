package swarm

import (
	"strconv"
	"time"

	"parley/internal/wire"
)

// views are what users who watch one another are told. They are empty unless Rooms.Watch is set.
type views struct {
	*shared
	all   []view  // of the users
	turns []int64 // when each last went online or offline
}

func newViews(s *shared) *views {
	vs := &views{shared: s}
	if m := s.cfg.Rooms; m.Members > 0 && m.Watch {
		vs.all, vs.turns = make([]view, len(s.users)), make([]int64, len(s.users))
	}
	return vs
}

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
func (vs *views) circle(i int) (from, to int) {
	m := vs.cfg.Rooms.Members
	return i - i%m, i - i%m + m
}

// turned records that a user went online or offline.
func (vs *views) turned(i int, online bool) {
	if vs.all == nil {
		return
	}
	now := vs.loop.Now()
	vs.st.counters["changes"]++
	vs.turns[i], vs.all[i].known = now, false
	from, to := vs.circle(i)
	for j := from; j < to; j++ {
		v := &vs.all[j]
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
		vs.watch(i)
	}
}

// watch asks for the presence of a user's friends.
func (vs *views) watch(i int) {
	u := &vs.users[i]
	if u.state != in {
		return
	}
	b := append(vs.buf[:0], 0, 0, 0, 0)
	b = append(b, `{"uids":[`...)
	from, to := vs.circle(i)
	for j := from; j < to; j++ {
		if j != i {
			b = append(strconv.AppendInt(b, int64(vs.uid(j)), 10), ',')
		}
	}
	vs.all[i].asked, vs.all[i].frames = vs.loop.Now(), 0
	u.conn.Send(vs.framed(append(b[:len(b)-1], ']', '}'), wire.MsgWatch))
}

// reply handles a 2152.
func (vs *views) reply(i int, body []byte) {
	var rsp wire.WatchReply
	err := wire.Decode(body, &rsp)
	switch {
	case vs.all == nil || err != nil:
		vs.st.fail("an unexpected 2152")
		return
	case rsp.Error != 0:
		vs.st.counters["watches refused"]++
		if r := vs.phase; r != nil {
			r.later = append(r.later, later{vs.loop.Now() + int64(rewatch), func() { vs.watch(i) }})
		}
		return
	}
	v := &vs.all[i]
	from, to := vs.circle(i)
	if v.told == nil {
		v.told = make([]bool, to-from)
	}
	clear(v.told)
	v.wrong = 0
	known := 0
	for _, state := range rsp.States {
		j := vs.friend(i, state.UID)
		if j < 0 {
			continue
		}
		known++
		v.told[j-from] = state.Online
		if state.Online != (vs.users[j].state == in) {
			v.wrong++
		}
	}
	if v.known = known == to-from-1; !v.known {
		vs.st.counters["wrong states"]++
		vs.st.fail("a 2152 without all friends")
	}
	v.right = vs.loop.Now()
}

// friend returns a user whose state another one was told, or -1 if it did not ask for that.
func (vs *views) friend(i int, uid int32) int {
	j := int(uid-vs.cfg.FirstUID) - vs.first
	if from, to := vs.circle(i); j < from || j >= to || j == i {
		vs.st.counters["wrong states"]++
		vs.st.fail("the presence of a user who is not watched")
		return -1
	}
	return j
}

// pushed handles a 2153.
func (vs *views) pushed(i int, body []byte) {
	var push wire.OnlinePush
	v := (*view)(nil)
	if vs.all != nil {
		v = &vs.all[i]
	}
	if v == nil || !v.known || wire.Decode(body, &push) != nil {
		vs.st.fail("an unexpected 2153")
		return
	}
	now := vs.loop.Now()
	// A node sends one 2153 per second. This holds from the request on, however late the frames arrive.
	if v.frames++; v.frames > 1+(now-v.asked)/int64(time.Second) {
		vs.st.counters["frames too many"]++
	}
	vs.st.counters["presence frames"]++
	vs.st.counters["presence states"] += int64(len(push.States))
	from, _ := vs.circle(i)
	for _, state := range push.States {
		j := vs.friend(i, state.UID)
		if j < 0 || v.told[j-from] == state.Online {
			continue // the time of the last session may have changed
		}
		v.told[j-from] = state.Online
		if state.Online != (vs.users[j].state == in) {
			v.wrong++
			continue
		}
		v.wrong--
		if r := vs.phase; r != nil && vs.turns[j] >= r.measureFrom {
			vs.st.hist(HTold).Record(now - vs.turns[j])
		}
	}
	if v.wrong == 0 {
		v.right = now
	}
}

// isRight reports whether a user who is online knows the truth about its friends.
func (vs *views) isRight(i int) bool {
	v := &vs.all[i]
	return vs.users[i].state != in || v.known && v.wrong == 0
}

// allRight reports whether all users know the truth about their friends.
func (vs *views) allRight() bool {
	for i := range vs.all {
		if !vs.isRight(i) {
			return false
		}
	}
	return true
}

// count counts at the end of a phase who knows the truth, and records since when.
func (vs *views) count(r *running) {
	for i := range vs.all {
		switch {
		case vs.users[i].state != in:
		case !vs.isRight(i):
			vs.st.counters["views wrong"]++
		default:
			vs.st.counters["views right"]++
			if r.Kind == "storm" {
				vs.st.rightAt = append(vs.st.rightAt, float64(max(vs.all[i].right-r.start, 0))/1e9)
			}
		}
	}
}
