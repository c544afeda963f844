package main

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"parley/client"
)

const (
	// typingPause is how long after a notice of typing the same one is not shown again.
	typingPause = 10 * time.Second
	// typingLate is how long after a text a notice of typing by its sender may be about that text.
	typingLate = 2 * time.Second
)

// watchFriends has the session told when friends come and go, as many as may be watched.
func (t *talk) watchFriends(ctx context.Context) ([]client.Presence, error) {
	friends := t.s.Friends()
	uids := make([]int32, min(len(friends), client.MaxWatched))
	for i := range uids {
		uids[i] = friends[i].UID
	}
	return t.s.Watch(ctx, uids)
}

// friendsMoved watches the friends there are now, for a person.
func (t *talk) friendsMoved() {
	if !t.person {
		return
	}
	t.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), t.cmd.Timeout)
		defer cancel()
		_, err := t.watchFriends(ctx)
		if err != nil && !errors.Is(err, client.ErrNoPresence) && t.s.Err() == nil {
			t.print.notice("friends who come and go are not shown: %s; /who tries again", explain(err))
		}
	})
}

// online tells a person which friends have come or gone.
func (t *talk) online(ev client.Online) {
	t.mu.Lock()
	first := t.here == nil
	if first {
		t.here = make(map[int32]bool)
	}
	var came, went []int32
	for _, s := range ev.States {
		if s.Online == t.here[s.UID] {
			continue
		}
		if t.here[s.UID] = s.Online; s.Online {
			came = append(came, s.UID)
		} else {
			went = append(went, s.UID)
		}
	}
	t.mu.Unlock()
	if !t.person {
		return
	}
	if first && len(came) > 0 {
		t.print.notice("online now: %s", t.namesOf(came))
		return
	}
	for _, uid := range came {
		t.print.notice("%s is online", printable(t.name(uid)))
	}
	for _, uid := range went {
		if t.isFriend(uid) { // of others nothing is known any more
			t.print.notice("%s is offline", printable(t.name(uid)))
		}
	}
}

func (t *talk) isFriend(uid int32) bool {
	return slices.ContainsFunc(t.s.Friends(), func(f client.Friend) bool { return f.UID == uid })
}

func (t *talk) namesOf(uids []int32) string {
	names := make([]string, len(uids))
	for i, uid := range uids {
		names[i] = printable(t.name(uid))
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// typing tells a person that somebody else is typing.
func (t *talk) typing(ev client.Typing) {
	if !t.person {
		return
	}
	t.mu.Lock()
	again := t.typed == ev && time.Since(t.typedAt) < typingPause
	if !again {
		t.typed, t.typedAt = ev, time.Now()
	}
	t.mu.Unlock()
	if again {
		return
	}
	if group := t.groupName(ev.ThreadID); group != "" {
		t.print.notice("%s is typing in %s", printable(t.name(ev.UID)), printable(group))
		return
	}
	t.print.notice("%s is typing", printable(t.name(ev.UID)))
}

// typingTo finds the thread whose members are told that this person types.
func (t *talk) typingTo(to recipient) {
	t.typesIn.Store(to.thread)
	if !t.person || to.uid == 0 {
		return
	}
	t.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), t.cmd.Timeout)
		defer cancel()
		thread, err := t.s.OpenThread(ctx, to.uid)
		t.mu.Lock()
		defer t.mu.Unlock()
		if err == nil && t.to == to {
			t.typesIn.Store(thread)
		}
	})
}

// key is told of each key that a person presses, with the line until then. It must not print.
func (t *talk) key(line string) {
	if thread := t.typesIn.Load(); thread != 0 && line != "" && !strings.HasPrefix(line, "/") {
		t.s.Typing(thread)
	}
}

// listOnline lists the friends, those who are online first.
func (t *talk) listOnline(ctx context.Context) error {
	states, err := t.watchFriends(ctx)
	if err != nil {
		return err
	}
	slices.SortStableFunc(states, func(a, b client.Presence) int {
		if a.Online != b.Online {
			if a.Online {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.LastSeen.Unix(), a.LastSeen.Unix())
	})
	for _, s := range states {
		name := printable(t.name(s.UID))
		switch {
		case s.Online:
			t.print.notice("%s is online", name)
		case s.LastSeen.IsZero():
			t.print.notice("%s is offline", name)
		default:
			t.print.notice("%s is offline, last seen %s", name, s.LastSeen.Local().Format("2006-01-02 15:04"))
		}
	}
	if len(states) == 0 {
		t.print.notice("you have no friends here yet; /add NAME GREETING")
	}
	return nil
}

// visible says or changes whether friends see this user.
func (t *talk) visible(ctx context.Context, arg string) error {
	visible := arg == "on"
	var err error
	switch arg {
	case "on", "off":
		err = t.s.SetVisible(ctx, visible)
	case "":
		visible, err = t.s.Visible(ctx)
	default:
		return errors.New("usage: /visible on, or /visible off")
	}
	if err != nil {
		return err
	}
	if visible {
		t.print.notice("friends see when you are online and when you type")
	} else {
		t.print.notice("nobody sees whether you are online, or that you type")
	}
	return nil
}
