package main

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
)

func TestPeopleTalkInAGroup(t *testing.T) {
	gate, letters := startCluster(t)
	for _, args := range [][]string{{"code"}, {"register", "--name=carol", "--password=carol-secret"}} {
		if args[0] == "register" {
			args = append(args, "--code="+letters.code(t, "carol@example.com"))
		}
		code, _, stderr := execute(t, "", append(args, gate, "--email=carol@example.com")...)
		require.Equal(t, exitOK, code, stderr)
	}
	alice := start(t, true, login(gate, 0)...)
	sees(t, &alice.err, "logged in as alice")
	bob := start(t, true, login(gate, 1)...)
	sees(t, &bob.err, "logged in as bob")
	carol := start(t, true, "chat", gate, "--email=carol@example.com", "--password=carol-secret")
	sees(t, &carol.err, "logged in as carol")

	alice.line("/group")
	sees(t, &alice.err, "you are in no group; /group new NAME makes one")
	alice.line("/group members")
	sees(t, &alice.err, "you are not talking to a group: choose one with /to GROUP")
	alice.line("/group new " + strings.Repeat("书", 65))
	sees(t, &alice.err, "the name has 65 characters; at most 64 are possible")
	alice.line("/group new book club")
	sees(t, &alice.err, "texts go to the group book club (#")
	sees(t, &alice.err, "] book club: you made the group\n")
	alice.line("/group invite bob")
	sees(t, &alice.err, "] book club: you added bob\n")
	sees(t, &bob.err, "] book club: alice added you\n")
	sees(t, &bob.err, "* to write to this group: /to book club\n")
	alice.line("hello all")
	sees(t, &bob.out, "] alice (book club): hello all\n")
	bob.line("/to BOOK CLUB")
	sees(t, &bob.err, "texts go to the group book club (#")
	bob.line("hello alice")
	sees(t, &alice.out, "] bob (book club): hello alice\n")
	bob.line("/threads")
	sees(t, &bob.err, "the group book club (#")
	sees(t, &bob.err, "), 2 members, you are a member, ")

	// Only those who may, may; and they are told why not.
	bob.line("/group rename ours")
	sees(t, &bob.err, "only the owner and admins of the group can do that")
	bob.line("/group dissolve book club")
	sees(t, &bob.err, "only the owner of the group can do that")
	alice.line("/group invite carol")
	sees(t, &alice.err, "carol is not your friend; you can give a code instead: /group link")
	alice.line("/group leave")
	sees(t, &alice.err, "you are the owner: make another member the owner first")

	alice.line("/group link 1h 2")
	sees(t, &alice.err, "they join with /group join ")
	joinCode := regexp.MustCompile(`/group join (\S+)`).FindStringSubmatch(alice.err.String())[1]
	require.Regexp(t, `code \S+, for 2 people until [-0-9: ]+: they join`, alice.err.String())
	carol.line("/group join nonsense")
	sees(t, &carol.err, "the code is wrong, used up, expired or revoked")
	carol.line("/group join " + joinCode)
	sees(t, &carol.err, "texts go to the group book club (#")
	sees(t, &carol.err, "] book club: you joined by a link\n")
	sees(t, &bob.err, "] book club: carol joined by a link\n")
	carol.line("here I am")
	sees(t, &bob.out, "] carol (book club): here I am\n")
	alice.line("/group links")
	sees(t, &alice.err, ", made by you, for 1 person until ")
	alice.line("/group revoke " + joinCode)
	sees(t, &alice.err, "is useless now")

	alice.line("/group role carol admin")
	sees(t, &bob.err, "] book club: alice made carol an admin\n")
	carol.line("/group mute bob 10m")
	sees(t, &bob.err, "] book club: carol muted you until ")
	bob.line("mmm")
	sees(t, &bob.err, `not sent: "mmm": send: not allowed (2006); see /group info`)
	alice.line("/group members")
	sees(t, &alice.err, "* alice (uid 1001), owner\n")
	sees(t, &alice.err, "* carol (uid 1003), admin\n")
	sees(t, &alice.err, "* bob (uid 1002), muted until ")
	carol.line("/group mute bob off")
	sees(t, &bob.err, "] book club: carol let you write again\n")
	carol.line("/group mute all on")
	sees(t, &bob.err, "] book club: carol muted everybody but the admins\n")
	carol.line("/group mute all off")
	sees(t, &bob.err, "] book club: carol let everybody write again\n")
	carol.line("/group rename film club")
	sees(t, &bob.err, "] book club: carol named the group film club\n")
	alice.line("/group history on")
	sees(t, &bob.err, "] film club: alice opened the earlier messages to new members\n")
	bob.line("/group info")
	sees(t, &bob.err, "3 members; the owner is alice; you are a member")
	sees(t, &bob.err, "new members can read what was written before they joined")

	carol.line("/group remove alice")
	sees(t, &carol.err, "you can do that only to members with a lower role than yours")
	carol.line("/group remove bob")
	sees(t, &bob.err, "] film club: carol removed you\n")
	bob.line("anybody?")
	sees(t, &bob.err, "no recipient")
	bob.line("/group")
	sees(t, &bob.err, "which you are no longer in")
	bob.line("/to film club")
	sees(t, &bob.err, "you are no longer in this group; /history prints what you may still read")
	bob.line("/group members")
	sees(t, &bob.err, "you are no longer in the group film club")
	carol.line("/group leave")
	sees(t, &alice.err, "] film club: carol left\n")
	alice.line("/group dissolve")
	sees(t, &alice.err, "to end the group for everybody, type /group dissolve film club")
	alice.line("/group dissolve film club")
	sees(t, &alice.err, "] film club: you dissolved the group\n")

	alice.line("/help group")
	sees(t, &alice.err, "/group invite FRIEND...")
	alice.line("/group dance")
	sees(t, &alice.err, "no command /group dance")
	for _, c := range []*running{alice, bob, carol} {
		c.line("/quit")
		require.Equal(t, exitOK, c.ends())
	}
}

func TestSentencesOfGroups(t *testing.T) {
	noon := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	sh := &shared{self: client.Profile{UID: 1, Name: "alice"}, print: &printer{now: func() time.Time { return noon }}}
	said := &transcript{shared: sh, directory: &directory{shared: sh, users: map[int32]string{2: "bob", 3: "eve\x1b[2J"}}}
	many := []int32{2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2}
	for want, e := range map[string]client.GroupEvent{
		`bob made the group, with you and eve\x1b[2J`:                           {What: client.GroupCreated, By: 2, UIDs: []int32{1, 3}},
		"you made bob an ordinary member":                                       {What: client.GroupRole, By: 1, UIDs: []int32{2}},
		"bob made you the owner":                                                {What: client.GroupOwner, By: 2, UIDs: []int32{1}},
		"bob muted you until 13:00:00":                                          {What: client.GroupMuted, By: 2, UIDs: []int32{1}, Until: noon.Add(time.Hour)},
		"bob closed the earlier messages to new members":                        {What: client.GroupHistory, By: 2},
		"you added bob, bob, bob, bob, bob, bob, bob, bob, bob, bob and 2 more": {What: client.GroupInvited, By: 1, UIDs: many},
		`bob named the group a\nb`:                                              {What: client.GroupRenamed, By: 2, Name: "a\nb"},
		"bob changed the group (painted)":                                       {What: "painted", By: 2},
		"bob left":                                                              {What: client.GroupLeft, By: 2},
	} {
		require.Equal(t, want, said.sentence(&e))
	}
}
