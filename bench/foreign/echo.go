package foreign

import (
	"bytes"
	"context"
	"errors"
	"net/url"

	"parley/bench/ledger"
)

// echo is a server that sends back whatever it gets. It is what sockets and the generator cost without any server: its texts
// are lines.
type echo struct{ at string }

func newEcho(u *url.URL, _ uint32) (Server, error) {
	at, err := hostPort(u, "7", "tcp")
	return &echo{at}, err
}

func (e *echo) Address() string                         { return e.at }
func (*echo) Prepare(context.Context, int32, int) error { return nil }
func (*echo) Forget(context.Context) error              { return nil }
func (*echo) Speaker(_, _ int32, line Line) Speaker     { return &echoer{line: line} }

type echoer struct {
	line   Line
	stream parts
}

func (e *echoer) Begin() {
	e.stream = parts{}
	e.line.LoggedIn()
}

func (e *echoer) Say(_ uint32, content []byte) {
	e.line.Send(content)
	e.line.Send([]byte{'\n'})
}

var errStray = errors.New("a line that nobody sent")

func (e *echoer) Heard(data []byte) error { return e.stream.take(data, 64<<10, e.one) }

func (e *echoer) one(data []byte) (rest []byte, err error) {
	line, rest, ok := bytes.Cut(data, []byte{'\n'})
	if !ok {
		return nil, nil
	}
	t, known, _ := ledger.ParseText(line)
	if !known {
		return nil, errStray
	}
	e.line.Echoed(t.Counter, line)
	return rest, nil
}
