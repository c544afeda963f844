//go:build linux

package main

import (
	"time"

	"parley/lab/launch"
)

// groupBars check that each member of a group has the rows of its membership, and that no other user has any.
var groupBars = []Bar{
	{
		ID: "G1", Run: groupChurn, Limit: 10 * time.Minute,
		Fault: "20,000 texts into 5 groups of 40 users who join by link, are invited, leave, are removed, muted and unmuted, and who edit, recall and mark texts on two devices; one of three nodes killed with SIGKILL, another paused for 15 s",
		Want:  "each user has the rows from its joining to its leaving, once and in order, and is pushed no other; acknowledged and lost 0; texts of non-members and muted members stored 0; the content of a recalled text is nowhere, the last edit is stored and shown; marks never move back and are the same on both devices",
	},
	{
		ID: "G2", Run: removalRaces, Limit: 40 * time.Minute,
		Fault: "a member removed from a group while it sends without pause from another node, and others send, 10,000 times",
		Want:  "its texts stored after the removal 0, those sent after its answer and acknowledged 0; later rows pushed to its connections 0",
	},
	{
		ID: "G3", Run: loginsIntoStream, Limit: 10 * time.Minute,
		Fault: "a member logs in on a random node at a random moment of a stream of texts from two nodes, 2,000 times",
		Want:  "texts missed, doubled or reordered 0; all there within 5 s of the last (judged at 15 s), by push or sync",
	},
}

// unlimited removes the limits of users.
func unlimited(n *launch.Node, _ int, f *launch.INI) error {
	if n.Role() != launch.Chat {
		return nil
	}
	f.Set("Limits", "TextRate", "0")
	f.Set("Limits", "RequestRate", "0")
	return nil
}
