// Package reconcile ensures that each user has at most one live session per device in the whole cluster.
//
// A login takes its place in Redis, and its node ends the session it displaced before it answers the client. Kicker
// does that for a session on another node: by RPC; through the node's mailbox in Redis if the node does not answer;
// and by a fence in SQL if the node's lease is gone.
//
// A kick can be lost, and so can an entry in Redis. Reconciler compares all sessions of this node with Redis within a
// minute: it writes lost entries back, and ends a session if another one has its place.
//
// docs/GUARANTEES.md says how long two sessions can overlap; the numbers are constants of this package.
package reconcile
