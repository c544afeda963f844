package launch

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken below the range from which Linux takes the local ports of outgoing connections (32768 and up), so
// that a node can be restarted on its port while a test holds thousands of connections.
const (
	lowestPort  = 10_000
	highestPort = 32_000
	portTries   = 200
)

// port is a free TCP port on loopback, kept for us from choice to Close. It is kept by a UDP socket of the same
// number: that leaves the TCP port to the child, keeps other users of this package away from it, and the kernel gives
// it back when this process dies.
type port struct {
	number int
	hold   io.Closer
}

func takePort() (port, error) {
	for range portTries {
		n := lowestPort + rand.IntN(highestPort-lowestPort)
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(n))
		hold, err := net.ListenPacket("udp4", addr)
		if err != nil {
			continue
		}
		probe, err := net.Listen("tcp4", addr)
		if err != nil {
			_ = hold.Close() // nothing was sent: nothing can be lost
			continue
		}
		if err := probe.Close(); err != nil {
			return port{}, errors.Join(err, hold.Close())
		}
		return port{number: n, hold: hold}, nil
	}
	return port{}, fmt.Errorf("launch: no free port in %d tries between %d and %d", portTries, lowestPort, highestPort)
}

func (p port) String() string { return strconv.Itoa(p.number) }

// Addr is the loopback address of the port.
func (p port) Addr() string { return net.JoinHostPort("127.0.0.1", p.String()) }

// Close gives the number back, once. The zero port has nothing to give.
func (p port) Close() error {
	if p.hold == nil {
		return nil
	}
	if err := p.hold.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
