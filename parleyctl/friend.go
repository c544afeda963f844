package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"parley/client"
)

// friends is the commands about friends, applications and blocked users, and what is told of them.
type friends struct {
	*shared
	directory     *directory
	conversations *conversations
	presence      *presence
}

// list prints the friends and the pending applications.
func (fs *friends) list() {
	for _, f := range fs.s.Friends() {
		alias := ""
		if f.Alias != "" && f.Alias != f.Name {
			alias = ", " + printable(f.Alias)
		}
		fs.print.notice("%s (uid %d%s)", printable(f.Name), f.UID, alias)
	}
	for _, a := range fs.s.Applications() {
		fs.applied(a)
	}
}

// applied tells of an application.
func (fs *friends) applied(a client.Application) {
	fs.print.notice("%s asks to be your friend: %q; /accept %s", printable(a.Name), printable(a.Greeting), printable(a.Name))
}

// add applies for friendship.
func (fs *friends) add(ctx context.Context, rest string) error {
	who, greeting, _ := strings.Cut(rest, " ")
	if who == "" {
		return errors.New("usage: /add NAME GREETING")
	}
	if f, ok := findFriend(fs.s.Friends(), who); ok {
		return fmt.Errorf("%s is already your friend", printable(f.Name))
	}
	p, err := fs.directory.findUser(ctx, who)
	if err != nil {
		return err
	}
	if err := fs.s.Apply(ctx, p.UID, strings.TrimSpace(greeting), ""); err != nil {
		return err
	}
	fs.print.notice("%s (uid %d) is asked", printable(p.Name), p.UID)
	return nil
}

// accept accepts an application.
func (fs *friends) accept(ctx context.Context, who string) error {
	for _, a := range fs.s.Applications() {
		if a.Name != who && strconv.Itoa(int(a.UID)) != who {
			continue
		}
		if _, err := fs.s.Approve(ctx, a.UID, ""); err != nil {
			return err
		}
		fs.befriended(a.Name)
		return nil
	}
	return fmt.Errorf("no application from %q", printable(who))
}

// befriended tells of a new friend.
func (fs *friends) befriended(name string) {
	fs.print.notice("%s is your friend now", printable(name))
	fs.presence.friendsMoved()
}

// unfriend ends a friendship.
func (fs *friends) unfriend(ctx context.Context, who string) error {
	friend, ok := findFriend(fs.s.Friends(), who)
	if !ok {
		return fmt.Errorf("you have no friend %q", printable(who))
	}
	if err := fs.s.Unfriend(ctx, friend.UID); err != nil {
		return err
	}
	fs.conversations.parted(friend.UID)
	fs.print.notice("%s (uid %d) is not your friend any more", printable(friend.Name), friend.UID)
	return nil
}

// block blocks a friend, an applicant or a stranger.
func (fs *friends) block(ctx context.Context, who string) error {
	if who == "" {
		return errors.New("usage: /block NAME")
	}
	p, ok := findFriend(fs.s.Friends(), who)
	if !ok {
		var err error
		if p, err = fs.directory.findUser(ctx, who); err != nil {
			return err
		}
	}
	if err := fs.s.Block(ctx, p.UID); err != nil {
		return err
	}
	fs.conversations.parted(p.UID)
	fs.print.notice("%s (uid %d) is blocked; /unblock %s undoes it", printable(p.Name), p.UID, printable(p.Name))
	return nil
}

// unblock lets a blocked user apply again.
func (fs *friends) unblock(ctx context.Context, who string) error {
	for b, err := range fs.s.Blocks(ctx) {
		switch {
		case err != nil:
			return err
		case !strings.EqualFold(b.Name, who) && strconv.Itoa(int(b.UID)) != who:
			continue
		}
		if err := fs.s.Unblock(ctx, b.UID); err != nil {
			return err
		}
		fs.print.notice("%s (uid %d) is not blocked any more", printable(b.Name), b.UID)
		return nil
	}
	return fmt.Errorf("you have not blocked %q", printable(who))
}

// listBlocked prints who is blocked.
func (fs *friends) listBlocked(ctx context.Context) error {
	n := 0
	for b, err := range fs.s.Blocks(ctx) {
		if err != nil {
			return err
		}
		fs.print.notice("%s (uid %d) is blocked since %s", printable(b.Name), b.UID, b.Since.Local().Format("2006-01-02 15:04"))
		n++
	}
	if n == 0 {
		fs.print.notice("no user is blocked")
	}
	return nil
}

// changed tells of what another device did.
func (fs *friends) changed(ev client.FriendsChanged) {
	name := printable(fs.directory.name(ev.UID))
	switch ev.Change {
	case client.ChangeUnfriend:
		fs.conversations.parted(ev.UID)
		fs.print.notice("%s is not your friend any more", name)
	case client.ChangeBlock:
		fs.conversations.parted(ev.UID)
		fs.print.notice("%s was blocked on another device", name)
	case client.ChangeUnblock:
		fs.print.notice("%s was unblocked on another device", name)
	}
}

// findFriend finds by name, else by alias, else by uid, else by a name written in other capitals.
func findFriend(friends []client.Friend, who string) (client.Profile, bool) {
	matches := []func(client.Friend) bool{
		func(f client.Friend) bool { return f.Name == who },
		func(f client.Friend) bool { return f.Alias == who },
		func(f client.Friend) bool { return strconv.Itoa(int(f.UID)) == who },
		func(f client.Friend) bool { return strings.EqualFold(f.Name, who) },
	}
	for _, match := range matches {
		for _, f := range friends {
			if match(f) {
				return f.Profile, true
			}
		}
	}
	return client.Profile{}, false
}
