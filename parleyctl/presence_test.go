package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// seesOnline waits until a person has been told that a friend is online: in the list at the start or, because that can still
// have another session of the friend in it, or not yet have this one, by itself.
func seesOnline(t *testing.T, p *running, friend string) {
	t.Helper()
	require.Eventually(t, func() bool {
		said := p.err.String()
		return strings.Contains(said, "online now: "+friend) || strings.Contains(said, friend+" is online")
	}, patience, time.Millisecond)
}

func TestAPersonSeesWhoComesAndGoes(t *testing.T) {
	gate, _ := startCluster(t)
	alice := start(t, true, login(gate, 0, "--to=bob")...)
	sees(t, &alice.err, "texts go to bob")
	bob := start(t, true, login(gate, 1, "--to=alice")...)
	seesOnline(t, alice, "bob")
	seesOnline(t, bob, "alice")
	alice.line("/who")
	sees(t, &alice.err, "bob is online")
	bob.line("/visible")
	sees(t, &bob.err, "friends see when you are online")
	bob.line("/visible off")
	sees(t, &bob.err, "nobody sees whether you are online")
	sees(t, &alice.err, "bob is offline")
	bob.line("/visible on")
	sees(t, &alice.err, "bob is online")
	bob.line("/visible perhaps")
	sees(t, &bob.err, "/visible off")
	bob.line("/quit")
	require.Equal(t, exitOK, bob.ends())
	require.Eventually(t, func() bool { // when that has come round
		alice.line("/who")
		return strings.Contains(alice.err.String(), "bob is offline, last seen ")
	}, patience, time.Second)
	alice.line("/quit")
	require.Equal(t, exitOK, alice.ends())
}
