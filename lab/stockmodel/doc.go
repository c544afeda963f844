// Package stockmodel is a model of the stock Qt client, for tests and for package conform. It models how the client
// extracts frames from its input, what it remembers between logins, which windows wait for an answer, and what makes
// it crash, hang, or show a text twice.
//
// It is derived from docs/PROTOCOL.md, "Stock clients", not from the client's code, and is strict: input that might
// crash the real client is a fault here. It shares no decoding with the servers.
package stockmodel

import (
	"fmt"

	"parley/internal/wire"
)

// Generation is the generation of the client: M has threads, history and heartbeats; S1 has none of them.
type Generation uint8

// The two generations of stock clients.
const (
	M Generation = iota
	S1
)

// Kind is the effect of a fault on the client's user.
type Kind string

// The kinds of faults.
const (
	Crash     Kind = "crash"     // the process ends
	Hang      Kind = "hang"      // a window waits for ever
	Duplicate Kind = "duplicate" // a text, or a row of the chat list, appears twice
	Lost      Kind = "lost"      // the client drops what was sent without showing it
)

// Fault is a failure of a client caused by the server.
type Fault struct {
	Kind Kind
	ID   wire.MsgID // of the frame that caused it, or of the request that was not answered
	What string
}

func (f Fault) String() string { return fmt.Sprintf("%s at %d: %s", f.Kind, uint16(f.ID), f.What) }
