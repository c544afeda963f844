package main

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"parley/client"
)

// presence is which friends are online, and whether they see that this user is.
type presence struct {
	*shared
	directory *directory

	here map[int32]bool // users who are online, of those who are watched; nil before the first are known; owned by online
}

// watch has the session told when friends come and go, as many as may be watched.
func (p *presence) watch(ctx context.Context) ([]client.Presence, error) {
	friends := p.s.Friends()
	uids := make([]int32, min(len(friends), client.MaxWatched))
	for i := range uids {
		uids[i] = friends[i].UID
	}
	return p.s.Watch(ctx, uids)
}

// friendsMoved watches the friends there are now, for a person.
func (p *presence) friendsMoved() {
	if !p.person {
		return
	}
	p.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), p.cmd.Timeout)
		defer cancel()
		_, err := p.watch(ctx)
		if err != nil && !errors.Is(err, client.ErrNoPresence) && p.s.Err() == nil {
			p.print.notice("friends who come and go are not shown: %s; /who tries again", explain(err))
		}
	})
}

// online tells a person which friends have come or gone.
func (p *presence) online(ev client.Online) {
	first := p.here == nil
	if first {
		p.here = make(map[int32]bool)
	}
	var came, went []int32
	for _, s := range ev.States {
		if s.Online == p.here[s.UID] {
			continue
		}
		if p.here[s.UID] = s.Online; s.Online {
			came = append(came, s.UID)
		} else {
			went = append(went, s.UID)
		}
	}
	if !p.person {
		return
	}
	if first && len(came) > 0 {
		p.print.notice("online now: %s", p.directory.namesOf(came))
		return
	}
	for _, uid := range came {
		p.print.notice("%s is online", printable(p.directory.name(uid)))
	}
	for _, uid := range went {
		if p.isFriend(uid) { // of others nothing is known any more
			p.print.notice("%s is offline", printable(p.directory.name(uid)))
		}
	}
}

// isFriend reports whether a user is a friend.
func (p *presence) isFriend(uid int32) bool {
	return slices.ContainsFunc(p.s.Friends(), func(f client.Friend) bool { return f.UID == uid })
}

// list prints the friends, those who are online first.
func (p *presence) list(ctx context.Context) error {
	states, err := p.watch(ctx)
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
		name := printable(p.directory.name(s.UID))
		switch {
		case s.Online:
			p.print.notice("%s is online", name)
		case s.LastSeen.IsZero():
			p.print.notice("%s is offline", name)
		default:
			p.print.notice("%s is offline, last seen %s", name, s.LastSeen.Local().Format("2006-01-02 15:04"))
		}
	}
	if len(states) == 0 {
		p.print.notice("you have no friends here yet; /add NAME GREETING")
	}
	return nil
}

// visible says or changes whether friends see this user.
func (p *presence) visible(ctx context.Context, arg string) error {
	visible := arg == "on"
	var err error
	switch arg {
	case "on", "off":
		err = p.s.SetVisible(ctx, visible)
	case "":
		visible, err = p.s.Visible(ctx)
	default:
		return errors.New("usage: /visible on, or /visible off")
	}
	if err != nil {
		return err
	}
	if visible {
		p.print.notice("friends see when you are online and when you type")
	} else {
		p.print.notice("nobody sees whether you are online, or that you type")
	}
	return nil
}
