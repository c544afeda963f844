package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// helpText is what /help prints.
const helpText = `/to NAME            talk to this friend or group; without a name, show the current one
/friends            list friends and pending applications
/add NAME GREETING  apply for friendship
/accept NAME        accept an application
/unfriend NAME      end a friendship; the conversation stays readable
/block NAME         end the friendship and block the user
/unblock NAME       let a blocked user apply again
/blocks             list blocked users
/who                list friends, those who are online first
/visible [on|off]   say whether friends may see that you are online
/history [N]        print the last N texts (default 20) of the conversation
/read               tell who has read your last text in the conversation
/recall [WORDS|#N]  take back your last text, your last one with these words, or text N
/edit [#N] TEXT     replace your last text, or text N
/delete [WORDS|#N]  delete the last text, the last one with these words, or text N, for you alone
/threads            list conversations
/group              list your groups; /help group explains what you can do with them
/logout [all]       leave, and end this device's resume ticket, or the sessions of all devices
/quit               leave; the end of input does the same`

// command executes a line that begins with a slash.
func (t *talk) command(ctx context.Context, line string) (quit bool, err error) {
	word, rest, _ := strings.Cut(line[1:], " ")
	rest = strings.TrimSpace(rest)
	switch word {
	case "help":
		text := helpText
		if rest == "group" {
			text = groupHelp
		}
		t.print.notices(text)
	case "quit", "q":
		return true, nil
	case "to":
		return false, t.address(ctx, rest)
	case "friends":
		t.friends.list()
	case "add":
		return false, t.friends.add(ctx, rest)
	case "accept":
		return false, t.friends.accept(ctx, rest)
	case "unfriend":
		return false, t.friends.unfriend(ctx, rest)
	case "block":
		return false, t.friends.block(ctx, rest)
	case "unblock":
		return false, t.friends.unblock(ctx, rest)
	case "blocks":
		return false, t.friends.listBlocked(ctx)
	case "who":
		return false, t.presence.list(ctx)
	case "visible":
		return false, t.presence.visible(ctx, rest)
	case "logout":
		return t.logout(ctx, rest)
	case "history":
		return false, t.transcript.history(ctx, rest)
	case "read":
		return false, t.reading.whoHasRead(ctx)
	case "recall":
		return false, t.edits.recall(ctx, rest)
	case "edit":
		return false, t.edits.edit(ctx, rest)
	case "delete":
		return false, t.edits.remove(ctx, rest)
	case "threads":
		return false, t.conversations.list(ctx)
	case "group":
		return false, t.groups.command(ctx, rest)
	default:
		return false, fmt.Errorf("no command /%s; /help lists them, // begins a text with a slash", printable(word))
	}
	return false, nil
}

// logout ends this session for good, or all of the user's, once what was sent is answered.
func (t *talk) logout(ctx context.Context, scope string) (quit bool, err error) {
	if scope != "" && scope != "all" {
		return false, errors.New(`usage: /logout, or /logout all`)
	}
	if err := t.outbox.confirmed(ctx); err != nil {
		return false, err
	}
	if scope == "all" {
		err = t.s.LogoutEverywhere(ctx)
	} else {
		err = t.s.Logout(ctx)
	}
	return err == nil, err
}
