// Package group delivers the rows of a group to the sessions of its members. A row is stored once and encoded once,
// is sent to each node with members once, and is written from one buffer to all their sessions there.
//
// Each node has an index of which of its sessions belong to members of a group, and from which row on each may read.
// For each group, Redis has a hash of the nodes whose index contains the group. An entry of that hash is called the
// node's interest. After the commit of a row, its node reads the hash, never from a cache, and sends the row to these
// nodes.
//
// The parts of Groups share the index. logins and singles put sessions into it, interests keeps Redis in step with it.
// A home lane writes to the sessions that it holds, an away lane sends to the nodes that the locator finds. owed holds
// what members here have to be told to ask for.
//
// # Why a member gets each row
//
// A member gets a row by a push, or because its client asks for threads, sync or history. A client asks after each
// login and after each gap notice.
//
// Login, and users who are added. The node puts the session into the index, then writes its interest, and only then
// answers the client's next request (Enter, Reconcile) or tells the client to ask (rows for one user). A row
// committed before that request is read is in the answer. A row committed later is followed by a read of the hash
// that finds the interest, and the index has the session. So it does not matter what the login's own read of the
// memberships misses: a membership that begins at the same time is in the list that the client asks for, or its event
// is pushed to the user, and the router finds the user because the session took its place in Redis before.
//
// Redis. If Redis does not answer, or if not all nodes have written to a Redis that lost its data, rows go to all
// linked nodes. A node writes its interests again when Redis has lost its data, and in any case every Config.Pass; if
// an entry was missing, the members on the node get a gap notice. A node that was not linked while rows went to all
// nodes gets a gap notice for their groups, once Redis knows that it has members.
//
// Dropping an interest. The interest in a group without sessions is dropped after a while, by compare-and-delete. A
// group has another number each time it enters the index, so a late delete cannot remove the entry that a new login
// has just written. Each life of a node has a field of its own, so a late write of an earlier life has no effect
// either.
//
// Lost rows. Rows dropped because of a full queue or a broken link are owed: the members get a gap notice as soon as
// the node, or SQL, can be reached again. A client that does not read gets its gap notice when it reads again; no
// other session waits for it.
//
// # Why nobody else gets it
//
// Each change of the membership raises the group's version, and each row carries the version under which it was
// stored. If a node's index is older, the node reads the membership of its own users before it delivers the row. If
// that fails, the row is owed, and no session gets the row or a notice before the membership is known. A member who
// has left gets the rows up to the leaving, and a gap notice for those that may still be on their way from other
// nodes. A session gets no row below the first number of its index entry. That check suffices for a whole push: all
// its rows have the same version, so they are either all before or all after the event by which the member joined.
//
// An entry added with a version older than the index's lowers the version of the index. An entry added while the
// membership is being read keeps its own values, and lowers the version of the result to its own.
package group
