package gate

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"parley/internal/rpc"
	"parley/internal/wire"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/statusservice"
)

// placed says where a user is to log in.
type placed struct {
	host, port, token string
	addresses         addresses
}

// addresses are where a chat node takes clients, by transport; what it does not offer is absent.
type addresses struct {
	TCP string `json:"tcp,omitempty"` // host:port
	TLS string `json:"tls,omitempty"` // host:port
	WS  string `json:"ws,omitempty"`  // URL
	WSS string `json:"wss,omitempty"` // URL
}

// statusPool asks status servers for placements: first the one that answered last, then the others. It is safe for
// concurrent use.
type statusPool struct {
	servers []statusServer
	timeout time.Duration
	first   atomic.Int64 // index of the server to ask first
	metrics *metrics
}

type statusServer struct {
	addr   string
	client statusservice.Client
}

// place places a user. Every failure has CodeRPC, because the client can only try again.
func (p *statusPool) place(ctx context.Context, uid int32) (placed, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*p.timeout)
	defer cancel()
	first := int(p.first.Load())
	var causes []string
	for i := range p.servers {
		at := (first + i) % len(p.servers)
		rsp, err := p.ask(ctx, at, uid)
		if err != nil {
			p.metrics.places.WithLabelValues("unreachable").Inc()
			causes = append(causes, "status server "+p.servers[at].addr+": "+rpc.Cause(err))
			if ctx.Err() != nil {
				// Do not ask the server that was too slow first again.
				p.first.CompareAndSwap(int64(first), int64((at+1)%len(p.servers)))
				break
			}
			continue
		}
		p.first.CompareAndSwap(int64(first), int64(at))
		if rsp.Error != 0 {
			p.metrics.places.WithLabelValues("refused").Inc()
			return placed{}, wire.Refuse(wire.CodeRPC, safeError(fmt.Sprintf("status server %s answered %d", p.servers[at].addr, rsp.Error)))
		}
		where := addressesOf(rsp)
		if where == (addresses{}) || rsp.Token == "" {
			p.metrics.places.WithLabelValues("refused").Inc()
			return placed{}, wire.Refuse(wire.CodeRPC, safeError("status server "+p.servers[at].addr+" answered without an address or a token"))
		}
		p.metrics.places.WithLabelValues("ok").Inc()
		return placed{rsp.Host, rsp.Port, rsp.Token, where}, nil
	}
	return placed{}, wire.Refuse(wire.CodeRPC, safeError(strings.Join(causes, "; ")))
}

func addressesOf(rsp *message.GetChatServerRsp) addresses {
	a := addresses{TLS: rsp.Tls, WS: rsp.Ws, WSS: rsp.Wss}
	if rsp.Host != "" && rsp.Port != "" {
		a.TCP = net.JoinHostPort(rsp.Host, rsp.Port)
	}
	if a.WSS == "" && strings.HasPrefix(a.WS, "wss://") {
		a.WS, a.WSS = "", a.WS // a proxy in front of the node speaks TLS
	}
	return a
}

func (p *statusPool) ask(ctx context.Context, at int, uid int32) (*message.GetChatServerRsp, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	return p.servers[at].client.GetChatServer(ctx, &message.GetChatServerReq{Uid: uid})
}

// ping reports whether a status server answers. It sends a Login without a token, which a live server refuses.
func (p *statusPool) ping(ctx context.Context) error {
	var last error
	for i := range p.servers {
		askCtx, cancel := context.WithTimeout(ctx, p.timeout)
		_, err := p.servers[i].client.Login(askCtx, &message.LoginReq{})
		cancel()
		if err == nil {
			return nil
		}
		last = err
	}
	return last
}
