// Package presence keeps in Redis what Parley knows about users and nodes for a short time: login tokens and resume
// tickets, which node holds a user's sessions, node leases and load, placement of new logins, and caches of profiles
// and lists.
//
// Everything here is a lease or a hint. Accounts and messages live in SQL; if Redis loses all its data, users have to
// log in at the gate again. An entry that says "user 7 is on node a" counts only while a's lease carries the
// boot id written in the entry, so a node that died needs no cleaning up.
//
// No locks: each transition is one native command or one Lua script whose keys share a slot, so the same code runs on a
// single Redis, on Redis Cluster (Options.Cluster) and on miniredis. Only keys.go builds names of keys.
//
// The login path is packed: concurrent Prelogin, Claim, ClaimCached, ListsVersion, PutProfile, PutLists, Release and
// Locate calls share pipelines (combiner.go), because a round trip costs more than the work inside it.
//
// Redis should not evict (maxmemory-policy noeviction) and needs no persistence. With snapshots a restart may bring back
// an older state under the same generation id; without snapshots, all nodes see that the data is gone and restore theirs.
//
// The package does not decide what a node does when it loses its lease, which sessions to kick, or what a cached value means.
package presence
