// Package swarm runs the virtual users of one process. Each behaves as a native client of docs/PROTOCOL.md: it connects,
// logs in, sends heartbeats, chats and reconnects, and records the results. The package runs phases one after the other
// and returns the figures of each; it neither starts servers nor judges.
//
// A Fleet has one Swarm per loop. Both ends of a conversation live in the same Swarm, so that a text's planned time, its
// acknowledgement and its delivery are read from one clock and entered into one ledger without a lock.
package swarm
