// Package swarm is the virtual users of one process: they connect, log in, beat, chat and come back, each as the native
// client of docs/PROTOCOL.md would, and write down what happened to them. It runs phases one after the other and returns
// the figures of each; it neither starts servers nor judges.
//
// A Fleet has one Swarm a loop. Both ends of a conversation live in the same Swarm, so that a text's planned time, its
// acknowledgement and its delivery are read from one clock and entered into one ledger without a lock.
package swarm
