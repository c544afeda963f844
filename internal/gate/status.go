package gate

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"parley/internal/wire"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/statusservice"
)

// placed is where a user is to log in.
type placed struct{ host, port, token string }

// statusPool asks status servers for placements: the one that answered last, then the others. It is safe for
// concurrent use.
type statusPool struct {
	clients []statusservice.Client
	timeout time.Duration
	first   atomic.Int64 // index of the one to ask first
	metrics *metrics
}

// place has uid placed. Every failure is CodeRPC: the client can only try again.
func (p *statusPool) place(ctx context.Context, uid int32) (placed, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*p.timeout)
	defer cancel()
	first := int(p.first.Load())
	var last error
	for i := range p.clients {
		at := (first + i) % len(p.clients)
		rsp, err := p.ask(ctx, at, uid)
		if err != nil {
			p.metrics.places.WithLabelValues("unreachable").Inc()
			last = err
			if ctx.Err() != nil {
				// Whoever kept us waiting is not asked first by the next.
				p.first.CompareAndSwap(int64(first), int64((at+1)%len(p.clients)))
				break
			}
			continue
		}
		p.first.CompareAndSwap(int64(first), int64(at))
		if rsp.Error != 0 {
			p.metrics.places.WithLabelValues("refused").Inc()
			return placed{}, wire.Refuse(wire.CodeRPC, safeError(fmt.Sprintf("status server answered %d", rsp.Error)))
		}
		p.metrics.places.WithLabelValues("ok").Inc()
		return placed{rsp.Host, rsp.Port, rsp.Token}, nil
	}
	return placed{}, wire.Refuse(wire.CodeRPC, last)
}

func (p *statusPool) ask(ctx context.Context, at int, uid int32) (*message.GetChatServerRsp, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	return p.clients[at].GetChatServer(ctx, &message.GetChatServerReq{Uid: uid})
}

// ping reports whether one of the status servers answers: Login with no token is refused by a living one.
func (p *statusPool) ping(ctx context.Context) error {
	var last error
	for i := range p.clients {
		askCtx, cancel := context.WithTimeout(ctx, p.timeout)
		_, err := p.clients[i].Login(askCtx, &message.LoginReq{})
		cancel()
		if err == nil {
			return nil
		}
		last = err
	}
	return last
}
