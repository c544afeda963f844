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

// links is the commands about the codes to join a group with.
type links struct {
	*shared
	directory *directory
}

// create makes a code.
func (ls *links) create(ctx context.Context, g client.Group, rest string) error {
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
	l, err := ls.s.CreateLink(ctx, g.ThreadID, ttl, uses)
	if err != nil {
		return err
	}
	ls.print.notice("code %s, for %s until %s: they join with /group join %s", l.Code, people(l.Uses), ls.print.clock(l.Expires), l.Code)
	return nil
}

// people counts people.
func people(n int) string {
	if n == 1 {
		return "1 person"
	}
	return fmt.Sprintf("%d people", n)
}

// list prints the codes.
func (ls *links) list(ctx context.Context, g client.Group, _ string) error {
	links, err := ls.s.Links(ctx, g.ThreadID)
	if err != nil {
		return err
	}
	for _, l := range links {
		ls.print.notice("code %s, made by %s, for %s until %s", l.Code, ls.directory.who(l.By), people(l.Uses), ls.print.clock(l.Expires))
	}
	if len(links) == 0 {
		ls.print.notice("there is no code; /group link makes one")
	}
	return nil
}

// revoke makes a code useless.
func (ls *links) revoke(ctx context.Context, g client.Group, code string) error {
	if code == "" {
		return errors.New("usage: /group revoke CODE")
	}
	if err := ls.s.RevokeLink(ctx, g.ThreadID, code); err != nil {
		return err
	}
	ls.print.notice("the code %s is useless now", printable(code))
	return nil
}
