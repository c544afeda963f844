// Package stockmodel is a model of the stock Qt client, for tests and for the conformance kit: how it cuts frames out of
// its input, what it remembers from one login to the next, which windows wait for an answer, and what makes
// it crash, hang, or show a text twice.
//
// It is written from docs/PROTOCOL.md, "Stock clients", not from the client, and is strict: input that might crash the
// real client is a fault here. It shares no decoding with the servers.
package stockmodel

import (
	"fmt"

	"parley/internal/wire"
)

// Generation is the client's: M has threads, history and heartbeats; S1 has none of them.
type Generation uint8

// The two generations of stock clients.
const (
	M Generation = iota
	S1
)

// Kind is what a fault does to the person in front of the client.
type Kind string

// The kinds of faults.
const (
	Crash     Kind = "crash"     // the process is gone
	Hang      Kind = "hang"      // a window that waits for ever
	Duplicate Kind = "duplicate" // a text, or a row of the chat list, is there twice
	Lost      Kind = "lost"      // something was sent that the client drops without showing it
)

// Fault is one thing that went wrong in a client, by the server's doing.
type Fault struct {
	Kind Kind
	ID   wire.MsgID // of the frame that did it; of the request that was not answered
	What string
}

func (f Fault) String() string { return fmt.Sprintf("%s at %d: %s", f.Kind, uint16(f.ID), f.What) }
