// Package swarm runs the virtual users of one process. Each behaves as a native client of docs/PROTOCOL.md: it
// connects, logs in, sends heartbeats, chats and reconnects, and records the results. The package runs phases one
// after the other and returns the figures of each. It neither starts servers nor judges results.
//
// A Fleet has one Swarm per loop. Both users of a conversation belong to the same Swarm, so that a text's planned
// time, acknowledgement and delivery are measured by one clock and recorded in one ledger without a lock. A Swarm is made
// of parts by what users do: logins, beats, texts, marks, histories, views of presence, rooms.
package swarm
