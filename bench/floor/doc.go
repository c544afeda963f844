// Package floor provides servers that only answer frames: a login with a fixed 1006, a heartbeat with a 1024. They
// are the baseline for the cost of the same frames on a chat node.
package floor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"parley/internal/wire"
)

// Kinds are the available servers: Go's net with a goroutine per connection, netpoll as in the chat node, and a bare
// epoll loop on one thread.
var Kinds = []string{"net", "netpoll", "epoll"}

// Fan is another kind: a bare epoll loop that writes each received 2144 to all connections of a group, with one write(2)
// each. It is the baseline for texts to groups.
const Fan = "fan"

// Echo is another kind: Go's net with a goroutine per connection, which writes back whatever it reads, frames or not. It is the
// baseline for any server.
const Echo = "echo"

// Serve runs a server on a free loopback port until ctx ends. It calls ready with the address. Users whose uids divided
// by members are the same number are a group of Fan.
func Serve(ctx context.Context, kind string, members int, ready func(addr string)) error {
	switch kind {
	case "net":
		return serveNet(ctx, answerAlone, ready)
	case Echo:
		return serveNet(ctx, func(out, data []byte) (replies, rest []byte) { return append(out, data...), nil }, ready)
	case "netpoll":
		return serveNetpoll(ctx, ready)
	case "epoll":
		return serveEpoll(ctx, 0, ready)
	case Fan:
		return serveEpoll(ctx, max(members, 1), ready)
	}
	return fmt.Errorf("floor: no server of kind %q", kind)
}

var loginReply = wire.AppendCode(nil, wire.MsgLoginRsp, wire.CodeOK, 0)

// answer appends the replies to all whole frames of data to out and returns the rest of data. It calls login, unless nil,
// with the body of a 1005.
func answer(out, data []byte, login func(body []byte)) (replies, rest []byte) {
	for len(data) >= wire.HeaderLen {
		id, n := wire.ParseHeader(data)
		if len(data) < wire.HeaderLen+n {
			break
		}
		if id == wire.MsgLogin {
			out = append(out, loginReply...)
			if login != nil {
				login(data[wire.HeaderLen : wire.HeaderLen+n])
			}
		} else {
			out = append(out, wire.HeartbeatFrame...)
		}
		data = data[wire.HeaderLen+n:]
	}
	return out, data
}

// answerAlone is answer for servers that know no groups.
func answerAlone(out, data []byte) (replies, rest []byte) { return answer(out, data, nil) }

// fanned splits data into the complete 2144s at its beginning and the rest.
func fanned(data []byte) (frames, rest []byte) {
	n := 0
	for len(data)-n >= wire.HeaderLen {
		id, body := wire.ParseHeader(data[n:])
		if id != wire.MsgGroupPush || len(data)-n < wire.HeaderLen+body {
			break
		}
		n += wire.HeaderLen + body
	}
	return data[:n], data[n:]
}

func serveNet(ctx context.Context, answer func(out, data []byte) (replies, rest []byte), ready func(string)) error {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	ready(ln.Addr().String())
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		wg.Go(func() {
			defer conn.Close()
			hangUp := context.AfterFunc(ctx, func() { conn.Close() })
			defer hangUp()
			in, out, held := make([]byte, 4096), []byte(nil), 0
			for {
				n, err := conn.Read(in[held:])
				if err != nil {
					return
				}
				var rest []byte
				out, rest = answer(out[:0], in[:held+n])
				held = copy(in, rest)
				if _, err := conn.Write(out); err != nil {
					return
				}
			}
		})
	}
}
