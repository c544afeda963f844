// Package group takes the rows of a group to the sessions of its members. A row is stored once and encoded once, crosses to
// each node with members once, and is written from one buffer to all their sessions there.
//
// Each node has an index: which of its sessions belong to members of a group, and from which row on each may read. Redis
// has a hash for each group of the nodes whose index holds it: the node's interest. The node that stores a row reads this
// hash after the commit, never from a cache, and sends the row to those nodes.
//
// # Why a member gets each row
//
// A member gets a row by push, or by what its client asks for: threads, sync or history. A client asks after each login
// and after each gap notice.
//
// A login, and a user who is added. The node puts the session into the index, then writes its interest, and only then is
// the client's next request answered (Enter, Reconcile) or the client told to ask (rows for one user). A row that was
// committed before that request is read is in the answer. For one committed later, the sender's node reads the hash later
// still, finds the interest, and the index has the session. So it does not matter what the login's own read of the
// memberships misses: a membership that begins meanwhile is in the list that the client asks for, or its event is pushed
// to the user, whom the router finds because the session took its place in Redis before.
//
// Redis. If it does not answer, or not all nodes have written into a Redis that lost its data, rows go to all linked
// nodes. A node writes its interest again when Redis has lost its data, and writes all of it again every Config.Pass in any case: if
// an entry was missing, the members here get a gap notice. A node that the sender's did not know meanwhile gets a gap notice
// for the groups whose rows it was not sent, once Redis can say that it has members.
//
// Dropping an interest. A group without sessions is dropped after a while, by a compare-and-delete: each time that a group comes
// into the index it has another number, so that a late delete cannot hit the entry that a new login has just written. Each
// life of a node has a field of its own, so that neither can a late write of an earlier life.
//
// What does not arrive. Rows that a full queue or a broken link dropped are owed: the members get a gap notice as soon as
// the node, or SQL, can be reached again. A client that does not read gets its gap notice when it reads on; nobody waits
// for it.
//
// # Why nobody else gets it
//
// Each change of the membership raises the group's version, and each row carries the version under which it was stored. A
// node whose index is older reads the membership of its own users before it delivers. If it cannot, the row is owed: nobody gets
// it, or a notice of it, before the membership is known. Who has left gets the rows up to the leaving, and a gap notice for
// those of them that may still be on their way from other nodes. No row below an entry's first one is delivered to it: all rows of
// one push have the same version, and so are all before or all after the event by which a member joined.
//
// An entry that is added with an older version than the index lowers the index's, and one that is added while the
// membership is read keeps what it was added with, and lowers the result to its version.
package group
