package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAUserBlocksUnblocksAndUnfriends(t *testing.T) {
	gate, _ := startCluster(t)
	alice := start(t, true, login(gate, 0, "--to=bob")...)
	sees(t, &alice.err, "texts go to bob")
	desk := start(t, true, login(gate, 0, "--device=desk", "--to=bob")...)
	sees(t, &desk.err, "texts go to bob")
	bob := start(t, true, login(gate, 1, "--to=alice")...)
	sees(t, &bob.err, "texts go to alice")

	alice.line("/blocks")
	sees(t, &alice.err, "no user is blocked")
	alice.line("/block BOB")
	sees(t, &alice.err, "bob (uid 1002) is blocked")
	sees(t, &desk.err, "bob was blocked on another device")
	bob.line("are you there?")
	sees(t, &bob.err, "not sent")
	alice.line("still there?")
	sees(t, &alice.err, "no recipient")
	alice.line("/blocks")
	sees(t, &alice.err, "bob (uid 1002) is blocked since")
	alice.line("/unblock nobody")
	sees(t, &alice.err, `you have not blocked "nobody"`)
	alice.line("/unblock 1002")
	sees(t, &alice.err, "bob (uid 1002) is not blocked any more")
	sees(t, &desk.err, "bob was unblocked on another device")
	alice.line("/unfriend bob")
	sees(t, &alice.err, `you have no friend "bob"`)
	alice.line("/block")
	sees(t, &alice.err, "/block NAME")

	alice.line("/add bob again?")
	sees(t, &bob.err, `alice asks to be your friend: "again?"`)
	bob.line("/accept alice")
	sees(t, &alice.err, "bob is your friend now")
	alice.line("/unfriend bob")
	sees(t, &alice.err, "bob (uid 1002) is not your friend any more")

	alice.line("/logout everything")
	sees(t, &alice.err, "/logout all")
	alice.line("/logout all")
	require.Equal(t, exitOK, alice.ends())
	require.Equal(t, exitFail, desk.ends())
	bob.line("/logout")
	require.Equal(t, exitOK, bob.ends())
}
