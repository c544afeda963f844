package delivery

import (
	"parley/internal/peer"
	"parley/internal/rpc"
	"parley/kitex_gen/message/chatservice"
	"parley/kitex_gen/message/nodeservice"
)

// Dialer returns a function that makes the clients for a node's RPC address with the given settings.
func Dialer(config rpc.ClientConfig) func(addr string, grpc bool) (peer.Clients, error) {
	return func(addr string, grpc bool) (peer.Clients, error) {
		config := config
		config.GRPC = grpc
		a, b := rpc.NewClient(config, addr), rpc.NewClient(config, addr)
		node, err := nodeservice.NewClient("chatnode", a.Options()...)
		if err != nil {
			return peer.Clients{}, err
		}
		chat, err := chatservice.NewClient("chatnode", b.Options()...)
		if err != nil {
			a.Close()
			return peer.Clients{}, err
		}
		return peer.Clients{Node: node, Chat: chat, Close: func() { a.Close(); b.Close() }}, nil
	}
}
