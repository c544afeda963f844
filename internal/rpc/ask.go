package rpc

import (
	"context"
	"sync"
	"time"

	"parley/kitex_gen/message"
	"parley/kitex_gen/message/nodeservice"
)

const (
	askEvery   = 5 * time.Second
	askTimeout = time.Second
	maxAsked   = 8 // peers per round
)

// Ask calls NodeService.Hello on a few peers every five seconds, so that Standing learns whether they accept this
// node's signature even if the node makes no other calls. peers returns the addresses of the chat nodes; the first
// 1,024 are called in turn. name is this node's name, for the logs of the callees. Ask returns when ctx ends.
func (s *Standing) Ask(ctx context.Context, name string, auth *Auth, peers func() []string) {
	asker := &asker{name: name, config: ClientConfig{Auth: auth, Standing: s, Timeout: askTimeout, MaxIdle: 1}, clients: map[string]*askClient{}}
	defer asker.keep(nil)
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	for {
		asker.round(ctx, peers())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// An asker keeps a client for each peer.
type asker struct {
	name    string
	config  ClientConfig
	clients map[string]*askClient
	next    int
}

type askClient struct {
	transport *Client
	node      nodeservice.Client
}

// round calls some of the peers concurrently, starting where the previous round ended.
func (a *asker) round(ctx context.Context, peers []string) {
	peers = peers[:min(len(peers), maxStanding)]
	a.keep(peers)
	var wg sync.WaitGroup
	for range min(len(peers), maxAsked) {
		a.next++
		c := a.client(peers[a.next%len(peers)])
		if c == nil {
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, askTimeout)
			defer cancel()
			_, _ = c.node.Hello(ctx, &message.HelloReq{Name: a.name}) // the client records the outcome in Standing
		})
	}
	wg.Wait()
}

// client returns the client for addr, or nil if none can be made.
func (a *asker) client(addr string) *askClient {
	if c := a.clients[addr]; c != nil {
		return c
	}
	transport := NewClient(a.config, addr)
	node, err := nodeservice.NewClient("chatnode", transport.Options()...)
	if err != nil {
		transport.Close()
		return nil
	}
	c := &askClient{transport, node}
	a.clients[addr] = c
	return c
}

// keep closes the clients of peers that are gone.
func (a *asker) keep(peers []string) {
	stay := make(map[string]bool, len(peers))
	for _, addr := range peers {
		stay[addr] = true
	}
	for addr, c := range a.clients {
		if !stay[addr] {
			c.transport.Close()
			delete(a.clients, addr)
		}
	}
}
