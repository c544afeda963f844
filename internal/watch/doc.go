// Package watch tells clients which of the users they watch are online, and limits typing notices.
//
// The truth is in Redis: a user is online while one of the user's session entries names a boot id that a node's lease
// carries. Each node keeps a table of which of its sessions watch whom, what is known of each watched user, and what
// each session was told about the user. What is known is compared with what was told, so states need neither an order
// nor a queue: a session that cannot be told now is told the latest state later.
//
// The parts of Watches are the table and a goroutine per topic: reader, teller, rights and news. The parts of the
// table are its queues for the first two, unread and untold, and the lives of the nodes.
//
// # Why every watcher is eventually told the truth
//
// A watched user is dirty while what is known may differ from the truth. The reader, a single goroutine, reads dirty
// users from Redis and records what it finds. It marks a user clean before the read begins, so a change during the
// read makes the user dirty again. Because there is only one reader, an older read never overwrites a newer one.
//
// The truth changes in four ways. After each of them the users become dirty on every node that watches them:
//
//   - A session begins or ends. After its claim or release is complete in Redis, its node announces it (Changed) to itself
//     and, within Config.News, to each other node. If a link cannot take the news or may have lost it, the node is told to
//     read all users again, until that arrives. So is a node that has just been linked, because earlier news may not have
//     been sent to it. A new node is linked within Config.News after its lease was seen.
//   - A node's lease begins or ends. Each node sees the leases (Lives). Each user remembers the lives that its last read
//     found, including lives without a lease: when one of them changes, the user is dirty. Lives and the users that
//     remember them change under one lock, so no read can miss a change. If the user has a session under a life that is
//     not remembered, then that session is new, and its node announces it or another read finds it.
//   - Redis loses its data. Then an absent entry means nothing until all nodes have written theirs back (Deps.Settled): the
//     known state is kept and the user stays dirty. A live entry always counts.
//   - Redis loses one key. The node that owns the session writes it back and announces that.
//
// In addition, each user is read again every few minutes, a few users per second, in any case.
//
// A session may see the presence of a friend who has not opted out; all others are shown as offline. The truth about
// this is in SQL. A change is announced (RightsChanged) after its commit in the same way, and one goroutine reads the
// rights of each affected pair of a watcher and a watched user again. When the life of a node ends, the rights of all
// pairs are read again, because the node may have committed a change without announcing it. The deletion of an account
// is left for every node in its mailbox (Deleted). Set reads the rights
// after it has put the session into the table, and applies its result only to pairs whose rights have not been read
// because of a change since.
//
// The teller, a single goroutine, sends one frame to each session whose states differ, and at most one per
// Config.Spacing. If much waits for a client already, its states stay in the table.
//
// A change is thus told after News, one call, Gather, one read and at most Spacing. The end of a lease is told after the next
// read of the leases, one read and Spacing.
//
// # Bounds
//
// The pairs per session and per node are bounded. So is the news per period, beyond which it becomes a request to
// read all users again, and the pairs whose rights are to be read, beyond which all are read. A dirty user is in the
// reader's queue once, a session with changes in the teller's queue once.
package watch
