// Package presence keeps short-lived knowledge about users and nodes in Redis: login tokens and resume tickets, the
// nodes that hold a user's sessions, node leases and load, placement of new logins, and caches of profiles and lists.
//
// Everything here is a lease or a hint. Accounts and messages live in SQL; if Redis loses all its data, users must
// log in at the gate again. An entry such as "user 7 is on node a" counts only while a's lease carries the boot id in
// the entry, so a dead node needs no cleaning up.
//
// There are no locks. Each transition is one native command or one Lua script whose keys share a slot, so the same
// code runs on a single Redis, on Redis Cluster (Options.Cluster) and on memredis. Only keys.go builds key names.
//
// A Presence is divided by topic into Nodes, Leases, Mailboxes, Logins, Tokens, Sessions, Groups and Cache. They share
// one conn, the way to Redis.
//
// Concurrent calls on the login path share pipelines (combiner.go), because a round trip costs more than the work in
// it: all calls of Logins; ListsVersion, PutProfile and PutLists of Cache; Release and Locate of Sessions.
//
// Redis should not evict keys (maxmemory-policy noeviction) and needs no persistence. With snapshots, a restart may
// bring back older data under the same generation id; without, all nodes see that the data is gone and restore
// theirs.
//
// The package does not decide what a node does when it loses its lease, which sessions to kick, or what a cached
// value means.
package presence
