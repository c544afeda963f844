// Package foreign speaks the protocols of servers that are not Parley's, so that one generator can give all of them the same
// users under the same schedule. It knows what goes over a connection; the connections themselves, the times and the ledger
// are package swarm's.
package foreign

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
)

// Server is a server under load. Its methods may be called from several goroutines.
type Server interface {
	// Address is where its users connect, as HOST:PORT.
	Address() string
	// Prepare makes what users need before they log in, such as accounts. It is not measured. The uids of the users are
	// first and those after it.
	Prepare(ctx context.Context, first int32, users int) error
	// Speaker returns the client of a user, who sends to its partner.
	Speaker(uid, partner int32, line Line) Speaker
	// Forget removes what Prepare made, as far as the server allows it.
	Forget(ctx context.Context) error
}

// Meaning says what the figures of a server stand for, in a few words.
type Meaning struct {
	Login string // what a login is
	Ack   string // what is certain when a text is acknowledged
}

var meanings = map[string]Meaning{
	"centrifugo": {
		Login: "a token that may serve again, if there is one; a subscription to the user's channel",
		Ack:   "passed to the broker: in memory, or in Redis",
	},
	"echo": {Login: "a connection", Ack: "nothing: the text came back"},
	"nats": {
		Login: "a user and password, if there is one; a consumer of the user's subject",
		Ack:   "stored in the stream, as durably as the server's sync_interval says",
	},
	"tinode":   {Login: "a token that may serve again; the session joins the topic of the pair", Ack: "stored in the database"},
	"wukongim": {Login: "a name, or a token that may serve again", Ack: "stored, as durably as the server's log is written"},
}

// MeaningOf returns the meaning of a kind's figures.
func MeaningOf(kind string) Meaning { return meanings[kind] }

// Speaker is the client of one user. It has one connection at a time. Its methods must not wait.
type Speaker interface {
	// Begin starts the login on a connection that has just been made.
	Begin()
	// Heard takes bytes that have arrived, which it may change. After an error the connection is closed.
	Heard(data []byte) error
	// Say sends a text to the partner. content needs no escapes in JSON, and is the caller's.
	Say(counter uint32, content []byte)
}

// Line is a user's connection as its Speaker sees it.
type Line interface {
	// Send queues a copy of bytes.
	Send(b []byte)
	// LoggedIn says that texts may be sent and will be received.
	LoggedIn()
	// Acked says that the server has acknowledged a text. number is the one that the server gave the text, 0 if it gives none.
	Acked(counter uint32, number int64)
	// Refused says that the server has refused a text.
	Refused(counter uint32, why string)
	// Delivered says that a text came from the partner.
	Delivered(number int64, content []byte)
	// Echoed says that a text came back to its sender, from a server that knows no recipients: it counts as acknowledged and
	// as delivered.
	Echoed(counter uint32, content []byte)
}

// firstText is the id of a user's first text, in protocols that number requests; those before it log the user in.
const firstText = 16

// answered tells line what became of a text. why is empty if the server took it, under number. It returns false if the id is
// not that of a text.
func answered(line Line, id, number int64, why string) bool {
	switch {
	case id < firstText:
		return false
	case why != "":
		line.Refused(uint32(id-firstText), why)
	default:
		line.Acked(uint32(id-firstText), number)
	}
	return true
}

// drivers makes a Server of an address. run is different in each run, for names that must be new.
var drivers = map[string]func(u *url.URL, run uint32) (Server, error){
	"centrifugo": newCentrifugo,
	"echo":       newEcho,
	"nats":       newNATS,
	"tinode":     newTinode,
	"wukongim":   newWuKongIM,
}

// Kinds are the known kinds of servers.
func Kinds() []string { return slices.Sorted(maps.Keys(drivers)) }

// KindOf returns the kind of a server by its name, which is the kind itself or continues with a hyphen: "echo", "echo-remote".
func KindOf(name string) (kind string, ok bool) {
	kind, _, _ = strings.Cut(name, "-")
	_, ok = drivers[kind]
	return kind, ok
}

// New returns the server at an address.
func New(name, address string, run uint32) (Server, error) {
	kind, ok := KindOf(name)
	if !ok {
		return nil, fmt.Errorf("foreign: there is no driver for %q; known are %s", name, strings.Join(Kinds(), ", "))
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("foreign: the address of %s is no URL", name) // the error would contain a password
	}
	s, err := drivers[kind](u, run)
	if err != nil {
		return nil, fmt.Errorf("foreign: %s: %w", name, err)
	}
	return s, nil
}

// hostPort returns where a URL of one of the schemes leads.
func hostPort(u *url.URL, port string, schemes ...string) (string, error) {
	if !slices.Contains(schemes, u.Scheme) || u.Hostname() == "" {
		return "", fmt.Errorf("its address must begin with %s:// and a host, without TLS", strings.Join(schemes, ":// or "))
	}
	if p := u.Port(); p != "" {
		port = p
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}
