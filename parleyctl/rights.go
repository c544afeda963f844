package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"parley/client"
)

// unfriend ends a friendship.
func (t *talk) unfriend(ctx context.Context, who string) error {
	friend, ok := findFriend(t.s.Friends(), who)
	if !ok {
		return fmt.Errorf("you have no friend %q", printable(who))
	}
	if err := t.s.Unfriend(ctx, friend.UID); err != nil {
		return err
	}
	t.parted(friend.UID)
	t.print.notice("%s (uid %d) is not your friend any more", printable(friend.Name), friend.UID)
	return nil
}

// block blocks a friend, an applicant or a stranger.
func (t *talk) block(ctx context.Context, who string) error {
	if who == "" {
		return errors.New("usage: /block NAME")
	}
	p, ok := findFriend(t.s.Friends(), who)
	if !ok {
		var err error
		if p, err = t.find(ctx, who); err != nil {
			return err
		}
	}
	if err := t.s.Block(ctx, p.UID); err != nil {
		return err
	}
	t.parted(p.UID)
	t.print.notice("%s (uid %d) is blocked; /unblock %s undoes it", printable(p.Name), p.UID, printable(p.Name))
	return nil
}

func (t *talk) unblock(ctx context.Context, who string) error {
	for b, err := range t.s.Blocks(ctx) {
		switch {
		case err != nil:
			return err
		case !strings.EqualFold(b.Name, who) && strconv.Itoa(int(b.UID)) != who:
			continue
		}
		if err := t.s.Unblock(ctx, b.UID); err != nil {
			return err
		}
		t.print.notice("%s (uid %d) is not blocked any more", printable(b.Name), b.UID)
		return nil
	}
	return fmt.Errorf("you have not blocked %q", printable(who))
}

func (t *talk) blocks(ctx context.Context) error {
	n := 0
	for b, err := range t.s.Blocks(ctx) {
		if err != nil {
			return err
		}
		t.print.notice("%s (uid %d) is blocked since %s", printable(b.Name), b.UID, b.Since.Local().Format("2006-01-02 15:04"))
		n++
	}
	if n == 0 {
		t.print.notice("no user is blocked")
	}
	return nil
}

// logout ends this session for good, or all of the user's, once what was sent is answered.
func (t *talk) logout(ctx context.Context, scope string) (quit bool, err error) {
	if scope != "" && scope != "all" {
		return false, errors.New(`usage: /logout, or /logout all`)
	}
	if err := t.confirmed(ctx); err != nil {
		return false, err
	}
	if scope == "all" {
		err = t.s.LogoutEverywhere(ctx)
	} else {
		err = t.s.Logout(ctx)
	}
	return err == nil, err
}

// parted forgets a former friend as whom the texts go to.
func (t *talk) parted(uid int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.to.uid == uid {
		t.to = recipient{}
	}
}

// friendsChanged tells of what another device did.
func (t *talk) friendsChanged(ev client.FriendsChanged) {
	name := printable(t.name(ev.UID))
	switch ev.Change {
	case client.ChangeUnfriend:
		t.parted(ev.UID)
		t.print.notice("%s is not your friend any more", name)
	case client.ChangeBlock:
		t.parted(ev.UID)
		t.print.notice("%s was blocked on another device", name)
	case client.ChangeUnblock:
		t.print.notice("%s was unblocked on another device", name)
	}
}

type deleteCmd struct {
	gateFlags
	emailFlag
	Password string `help:"Password of the account. If missing, parleyctl asks for it." env:"PARLEY_PASSWORD"`
	Yes      bool   `help:"Do not ask whether you are sure."`
}

// Help is printed below the flags.
func (*deleteCmd) Help() string {
	return "All devices are logged out, friendships end, name and address are free again. Texts that were sent stay with those " +
		"who have them, under the name \"deleted\". There is no way back."
}

// Run deletes the account.
func (c *deleteCmd) Run(e *environment) error {
	gate, err := c.open()
	if err != nil {
		return err
	}
	password, err := e.password(c.Password)
	if err != nil {
		return err
	}
	if !c.Yes {
		if err := e.confirm(fmt.Sprintf("Delete the account of %s? Type yes: ", printable(c.Email))); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(e.ctx, c.Timeout)
	defer cancel()
	if err := gate.DeleteAccount(ctx, c.Email, password); err != nil {
		return err
	}
	fmt.Fprintf(e.err, "* the account of %s is deleted\n", printable(c.Email))
	return nil
}

// confirm asks a person, and refuses where there is none.
func (e *environment) confirm(question string) error {
	if !e.person {
		return usageError{errors.New("no terminal to ask for confirmation: give --yes")}
	}
	fmt.Fprint(e.err, question)
	var answer string
	if _, err := fmt.Fscanln(e.in, &answer); err != nil || answer != "yes" {
		return errors.New("cancelled")
	}
	return nil
}
