package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"parley/client"
)

func (t *talk) joinGroup(ctx context.Context, code string) error {
	if code == "" {
		return errors.New("usage: /group join CODE")
	}
	thread, name, err := t.s.JoinByLink(ctx, code)
	if client.CodeOf(err) == client.CodeNotAllowed {
		return errors.New("the code is wrong, used up, expired or revoked; or you were removed from its group, and need an invitation")
	}
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.groups[thread] = name
	t.mu.Unlock()
	t.setRecipient(recipient{thread: thread, name: name})
	return nil
}

func (t *talk) createLink(ctx context.Context, g client.Group, rest string) error {
	usage := errors.New("usage: /group link, or /group link TIME USES, with a time such as 1h or 72h")
	var ttl time.Duration
	var uses int
	fields := strings.Fields(rest)
	if len(fields) > 2 {
		return usage
	}
	for i, f := range fields {
		var err error
		if i == 0 {
			ttl, err = time.ParseDuration(f)
		} else {
			uses, err = strconv.Atoi(f)
		}
		if err != nil {
			return usage
		}
	}
	l, err := t.s.CreateLink(ctx, g.ThreadID, ttl, uses)
	if err != nil {
		return err
	}
	t.print.notice("code %s, for %s until %s: they join with /group join %s", l.Code, people(l.Uses), t.print.clock(l.Expires), l.Code)
	return nil
}

func people(n int) string {
	if n == 1 {
		return "1 person"
	}
	return fmt.Sprintf("%d people", n)
}

func (t *talk) listLinks(ctx context.Context, g client.Group, _ string) error {
	links, err := t.s.Links(ctx, g.ThreadID)
	if err != nil {
		return err
	}
	for _, l := range links {
		t.print.notice("code %s, made by %s, for %s until %s", l.Code, t.who(l.By), people(l.Uses), t.print.clock(l.Expires))
	}
	if len(links) == 0 {
		t.print.notice("there is no code; /group link makes one")
	}
	return nil
}

func (t *talk) revokeLink(ctx context.Context, g client.Group, code string) error {
	if code == "" {
		return errors.New("usage: /group revoke CODE")
	}
	if err := t.s.RevokeLink(ctx, g.ThreadID, code); err != nil {
		return err
	}
	t.print.notice("the code %s is useless now", printable(code))
	return nil
}
