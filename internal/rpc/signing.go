package rpc

import (
	"context"
	"errors"
	"net"

	"github.com/bytedance/gopkg/cloud/metainfo"
	"github.com/cloudwego/kitex/pkg/endpoint"
	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/cloudwego/kitex/pkg/remote/codec/protobuf"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
)

// maxTries bounds the attempts to make one call while the callee answers that it is not the process the call was
// signed for. The first call to an address takes two. More are needed only if an address leads to several processes,
// as that of a balancer does. Repeating is safe: a refused call was not executed.
const maxTries = 5

// outgoing is a request that is encoded once, so that the signed bytes are the bytes sent.
type outgoing struct {
	auth    *Auth
	dialer  *dialer
	service string
	method  string
	addr    string
	body    []byte
	digest  string

	to   string   // the callee of the latest signature
	conn net.Conn // the TTHeader connection it was sent on
}

var _ protobuf.ProtobufMsgCodec = (*outgoing)(nil)

var errNotEncoded = errors.New("rpc: a request is not decoded")

// Marshal returns the encoded request. Kitex's codecs call it once per attempt.
func (o *outgoing) Marshal(out []byte) ([]byte, error) {
	if len(out) == 0 {
		return o.body, nil
	}
	return append(out, o.body...), nil
}

// Unmarshal exists because the codecs require it.
func (o *outgoing) Unmarshal([]byte) error { return errNotEncoded }

// sign is the middleware of a Client. It runs after an address has been chosen.
func (c *Client) sign(next endpoint.Endpoint) endpoint.Endpoint {
	return func(ctx context.Context, req, resp any) error {
		ri := rpcinfo.GetRPCInfo(ctx)
		addr := ""
		if a := ri.To().Address(); a != nil {
			addr = a.String()
		}
		var err error
		if args, ok := req.(protobuf.ProtobufMsgCodec); ok && c.config.Auth != nil {
			err = c.callSigned(ctx, ri, addr, args, resp, next)
		} else {
			err = refusedCall(ri, next(ctx, req, resp))
		}
		c.config.Standing.note(addr, err)
		return err
	}
}

// callSigned makes a signed call, again if the callee turns out to be another process than expected.
func (c *Client) callSigned(ctx context.Context, ri rpcinfo.RPCInfo, addr string, args protobuf.ProtobufMsgCodec, resp any, next endpoint.Endpoint) error {
	body, err := args.Marshal(nil)
	if err != nil {
		return err
	}
	out := &outgoing{
		auth: c.config.Auth, dialer: &c.dialer, addr: addr, body: body, digest: digestOf(body),
		service: ri.Invocation().ServiceName(), method: ri.Invocation().MethodName(),
	}
	for try := 1; ; try++ {
		callCtx := ctx
		if c.config.GRPC { // gRPC metadata is sent before the connection is known
			out.to = out.auth.calleeAt(addr)
			for k, v := range out.auth.sign(out.to, out.service, out.method, out.digest) {
				callCtx = metadata.AppendToOutgoingContext(callCtx, k, v)
			}
		}
		err := refusedCall(ri, next(callCtx, out, resp))
		r, refused := errors.AsType[*Refusal](err)
		if !refused || r.Reason != ReasonCallee || r.Detail == "" || r.Detail == out.to || try == maxTries || ctx.Err() != nil {
			return err
		}
		out.auth.learn(addr, r.Detail)
		if out.conn != nil {
			c.dialer.learn(out.conn, r.Detail)
		}
	}
}

// A stamper signs each message sent on a TTHeader connection for the process at the other end of that connection. The
// address alone would not do, because several processes may share it.
type stamper struct{}

var _ remote.OutboundHandler = stamper{}

// Write implements remote.OutboundHandler. It runs when the connection is known, just before the message is encoded.
func (stamper) Write(ctx context.Context, conn net.Conn, send remote.Message) (context.Context, error) {
	o, ok := send.Data().(*outgoing)
	if !ok {
		return ctx, nil
	}
	o.conn = conn
	if o.to = o.dialer.calleeOn(conn); o.to == "" {
		o.to = o.auth.calleeAt(o.addr)
	}
	signed := o.auth.sign(o.to, o.service, o.method, o.digest)
	headers := make(map[string]string, len(signed))
	for k, v := range signed {
		headers[metainfo.PrefixTransient+k] = v
	}
	send.TransInfo().PutTransStrInfo(headers)
	return ctx, nil
}
