// Package reconcile keeps one live session of a user and device in the whole cluster.
//
// A login takes its place in Redis, and its node ends the session it displaced before the client is told that it is in.
// Kicker does that for a session on another node: by RPC, through the node's mailbox in Redis when the node does not
// answer, and by a fence in SQL when the node's lease is gone.
//
// A kick can be lost, and so can an entry in Redis. Reconciler compares the sessions of this node with Redis, all of them
// within a minute: what Redis has lost is written back, and a session whose place another one has is ended.
//
// docs/GUARANTEES.md says for how long two sessions can overlap; the numbers are the constants of this package.
package reconcile
