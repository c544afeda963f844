// Package watch tells clients which of the users they watch are online, and limits what they say about typing.
//
// Redis holds the truth: a user is online while an entry of a session of the user names a life of a node that has a lease.
// Each node has a table of which of its sessions watch whom, what is known of each watched user, and what each session was told
// of it. What was told is compared with what is known, so that states need no order and no queue: a session that cannot be
// told now is told the latest state later.
//
// # Why a watcher is told the truth in the end
//
// A watched user is dirty when what is known may not be the truth. The reader, one goroutine, reads dirty users from Redis
// and takes what it finds for known. A user stops being dirty before the read begins, so that a change during the read makes
// the user dirty again. There is one reader, so no older read can replace a newer one.
//
// The truth changes in four ways, and each makes the users dirty on each node that watches them, after the change:
//
//   - A session comes or goes. Its node says so (Changed) after the claim or the release is done in Redis, to itself and,
//     within Config.News, to each other node. News that a link could not take or may have lost become "read all again" for that
//     node, until that arrives. So does the news of a node that gets a link: it may not have been sent what came before.
//     A node that appears is linked before Config.News has passed since its lease was seen.
//   - A node's lease begins or ends. Each node sees the leases (Lives). Each user remembers the lives that the last read
//     found, those without a lease too: the users with a life that changes are dirty. A life and what is known of its users
//     change under one lock, so that a read cannot miss it. That the user has sessions with other lives than those
//     remembered means that a session came since, whose node says so, or which the reader finds for another reason.
//   - Redis loses its data. Then an absent entry means nothing until all nodes have written theirs (Deps.Settled): the user keeps
//     what is known and stays dirty. A live entry counts always.
//   - Redis loses one key. The node that owns the session writes it back and says so.
//
// Besides, each user is read again every few minutes, a few users per second, whatever happens.
//
// A session may see a user who is a friend and has not opted out; of others it is told that they are offline. SQL has
// the truth of this. A change is said (RightsChanged) after its commit in the same way, and each pair of a watcher and
// a watched user that it concerns is read again by one goroutine. When the life of a node ends, all pairs are: the node may
// not have come to say what it had committed. Set reads the rights after it has put the session into
// the table, and takes its own result only for pairs that have none from a read that a change caused.
//
// The teller, one goroutine, sends each session whose states differ one frame, and no second one within Config.Spacing. If
// much waits for the client already, the states wait in the table.
//
// So a change is told after News, one call, one read and at most Spacing. A lease that ends is told after the next look at
// the leases, one read and Spacing.
//
// # Bounds
//
// Pairs per session and per node; news per period, beyond which it is "read all again"; pairs whose rights are to be read,
// beyond which it is all. A dirty user is in the reader's queue once, a session with changes in the teller's once.
package watch
