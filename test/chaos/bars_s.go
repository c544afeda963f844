//go:build linux

package main

import "time"

// securityBars check what strangers, guessers and other users must not be able to do.
var securityBars = []Bar{
	{
		ID: "S2", Run: whoExists, Alone: true,
		Fault: "200 logins with a wrong password, of users that exist and of addresses that do not",
		Want:  "same code, same body; medians of the time differ by ≤ 10 % (judged at 25 %)",
	},
	{
		ID: "S3", Run: guessPassword,
		Fault: "10,000 guesses of one account's password",
		Want:  "real checks ≤ 6; the rest refused with retry_ms; the owner's resume ticket still works",
	},
	{
		ID: "S4", Run: guessCode,
		Fault: "guesses of a mailed code; more codes asked for than allowed",
		Want:  "≤ 5 tries per code, then the right one is refused as well; ≤ 5 codes per hour and mailbox",
	},
	{
		ID: "S5", Run: reuseTokens,
		Fault: "each of 1,000 login tokens used twice at once; revoked tokens; every string in a dump of Redis tried as a token",
		Want:  "exactly one login per token; revoked ones refused; a dump logs in 0 times",
	},
	{
		ID: "S6", Run: otherPeoplesThreads,
		Fault: "every request of the protocol about a thread of others",
		Want:  "texts stored 0, contents shown 0, for a stranger and for a friend of one member",
	},
	{
		ID: "S7", Run: injectSQL,
		Fault: "200 SQL injection payloads as texts, names, greetings and searches",
		Want:  "stored as text, byte for byte; rows touched as expected; SQL errors 0",
	},
	{
		ID: "S8", Run: canaries,
		Fault: "canaries (password, code, token, body, e-mail, SQL password) through a user's life at level debug",
		Want:  "found in logs or metrics 0 times",
	},
	{
		ID: "S9", Run: strangersCall,
		Fault: "RPCs to every node without a signature, and with another secret",
		Want:  "refused 100 %",
	},
	{
		ID: "S11", Run: abuseHTTP,
		Fault: "header of 1 MiB, body of 10 MiB, endless chunks, slow header, slow body",
		Want:  "431, 413 or closed; slow ones closed within 10 s (judged at 15 s); honest logins pass",
	},
	{
		ID: "S18", Run: replayRPC,
		Fault: "an RPC recorded between gate and status node, sent again to it after a restart and to another, as it was and with another uid",
		Want:  "tokens made 0",
	},
	{
		ID: "V2", Run: hostileFrames,
		Fault: "1,000,000 hostile frames: lengths, ids, nesting, bad UTF-8, logins out of order",
		Want:  "panics 0; memory + ≤ 48 MiB; bystanders unharmed",
	},
	{
		ID: "V7", Run: seededBugs, Limit: 20 * time.Minute,
		Fault: "nodes that do wrong on purpose: drop, double, swap, change or misroute a push; acknowledge without storing; ignore the fence or membership; keep removed members in the index of groups",
		Want:  "each is caught by the bar whose promise it breaks; without a bug nothing is found",
	},
}
