package conform

import (
	"parley/client"
	"parley/internal/rpc"
	"parley/kitex_gen/message"
	"parley/kitex_gen/message/statusservice"
)

// statusChecks need the address of a status node, which clients do not use.
var statusChecks = []Check{
	{
		Name: "status-place", Rules: []string{"D25", "D26"}, Doc: "GetChatServer names a node that accepts the token it hands out; a few in a row are spread",
		run: func(a *attempt) {
			u := a.grow(0)
			for _, addr := range a.statusAddrs() {
				s := a.statusClient(addr, a.t.Secret)
				rsp, err := s.GetChatServer(a.ctx, &message.GetChatServerReq{Uid: a.uid(u)})
				a.ok("GetChatServer at "+addr, err)
				equal(a, "error", 0, rsp.Error)
				node, err := a.offered(rsp.Host, rsp.Port, func(via string) string {
					return map[string]string{client.TransportTLS: rsp.Tls, client.TransportWS: rsp.Ws, client.TransportWSS: rsp.Wss}[via]
				})
				a.ok("the node's address", err)
				a.enter(ticket{uid: a.uid(u), token: rsp.Token, addr: node}, nil).alive()
				rsp, err = s.GetChatServer(a.ctx, &message.GetChatServerReq{Uid: 0})
				a.ok("GetChatServer", err)
				a.want(rsp.Error != 0, "uid 0: expected a refusal, got success")
			}
		},
	},
	{
		Name: "status-login", Rules: []string{"D24"}, Doc: "Login confirms a good token and refuses others, not the other way round",
		run: func(a *attempt) {
			t := a.login(a.grow(0))
			for _, addr := range a.statusAddrs() {
				s := a.statusClient(addr, a.t.Secret)
				for token, want := range map[string]int32{t.token: 0, "nonsense": 1010} {
					rsp, err := s.Login(a.ctx, &message.LoginReq{Uid: t.uid, Token: token})
					a.ok("Login at "+addr, err)
					equal(a, "error", want, rsp.Error)
				}
			}
		},
	},
	{
		Name: "status-authenticated", Rules: []string{"D10"}, Doc: "in a cluster with a secret an unsigned call, and one signed with another, is refused",
		run: func(a *attempt) {
			addrs := a.statusAddrs()
			if a.t.Secret == "" {
				a.skipf("the cluster has no secret")
			}
			for _, secret := range []string{"", "another"} {
				rsp, err := a.statusClient(addrs[0], secret).GetChatServer(a.ctx, &message.GetChatServerReq{Uid: 1})
				a.want(err != nil, "expected a refusal, got code %d", rsp.GetError())
			}
		},
	},
}

func (a *attempt) statusAddrs() []string {
	if len(a.t.Status) == 0 {
		a.skipf("needs the address of a status node")
	}
	return a.t.Status
}

func (a *attempt) statusClient(addr, secret string) statusservice.Client {
	cl := rpc.NewClient(rpc.ClientConfig{Auth: rpc.NewAuth(secret), Timeout: patience}, addr)
	a.closers = append(a.closers, cl.Close)
	s, err := statusservice.NewClient("statusnode", cl.Options()...)
	a.ok("client of "+addr, err)
	return s
}
