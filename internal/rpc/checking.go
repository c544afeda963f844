package rpc

import (
	"context"

	"github.com/bytedance/gopkg/cloud/metainfo"
	"github.com/cloudwego/kitex/pkg/endpoint"
	"github.com/cloudwego/kitex/pkg/kerrors"
	"github.com/cloudwego/kitex/pkg/remote/codec/protobuf"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/metadata"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/pkg/serviceinfo"
	"github.com/cloudwego/kitex/pkg/streaming"
	"github.com/cloudwego/kitex/transport"
)

// serverMiddleware refuses calls that Check refuses, and calls whose body is not the signed one. Over gRPC, a body is
// read only after its headers have been accepted.
func (a *Auth) serverMiddleware(m *Metrics) endpoint.Middleware {
	return func(next endpoint.Endpoint) endpoint.Endpoint {
		if a == nil {
			return next
		}
		return func(ctx context.Context, req, resp any) error {
			ri := rpcinfo.GetRPCInfo(ctx)
			grpc := ri.Config().TransportProtocol()&transport.GRPC != 0
			header := headerOf(ctx, grpc)
			refused := a.Check(ri.Invocation().ServiceName(), ri.Invocation().MethodName(), header)
			switch in := req.(type) {
			case *streaming.Args:
				var err error
				if refused == nil {
					st := &checkedStream{Stream: in.Stream, digest: header(HeaderBody)}
					in.Stream = st
					err = next(ctx, in, resp)
					refused = st.refused // Kitex wraps the error as if a handler had returned it
				}
				if refused != nil {
					m.refused(refused)
					return status.Err(codes.Unauthenticated, refused.Error())
				}
				return err
			case *digested:
				req = in.ProtobufMsgCodec
				if refused == nil && in.digest != header(HeaderBody) {
					refused = &Refusal{Reason: ReasonBody}
				}
			default: // without a digest the body cannot be checked
				refused = &Refusal{Reason: ReasonBody}
			}
			if refused == nil {
				return next(ctx, req, resp)
			}
			m.refused(refused)
			if set, ok := ri.Invocation().(rpcinfo.InvocationSetter); ok {
				set.SetBizStatusErr(kerrors.NewBizStatusError(refusalCode, refused.Error()))
				return nil
			}
			return refused
		}
	}
}

// headerOf returns a function that reads the caller's metadata, of either protocol. A repeated gRPC header counts as
// absent.
func headerOf(ctx context.Context, grpc bool) func(string) string {
	if !grpc {
		return func(name string) string {
			v, _ := metainfo.GetValue(ctx, name)
			return v
		}
	}
	md, _ := metadata.FromIncomingContext(ctx)
	return func(name string) string {
		if v := md.Get(name); len(v) == 1 {
			return v[0]
		}
		return ""
	}
}

// withDigests returns a copy of info whose methods decode their arguments as *digested.
func withDigests(info *serviceinfo.ServiceInfo) *serviceinfo.ServiceInfo {
	copied := *info
	copied.Methods = make(map[string]serviceinfo.MethodInfo, len(info.Methods))
	for name, m := range info.Methods {
		copied.Methods[name] = digestedMethod{m}
	}
	return &copied
}

type digestedMethod struct{ serviceinfo.MethodInfo }

// NewArgs implements serviceinfo.MethodInfo.
func (m digestedMethod) NewArgs() any {
	args := m.MethodInfo.NewArgs()
	if msg, ok := args.(protobuf.ProtobufMsgCodec); ok {
		return &digested{ProtobufMsgCodec: msg}
	}
	return args
}

// digested is a message that records the digest of the bytes it was decoded from.
type digested struct {
	protobuf.ProtobufMsgCodec
	digest string
}

func (d *digested) Unmarshal(body []byte) error {
	d.digest = digestOf(body)
	return d.ProtobufMsgCodec.Unmarshal(body)
}

// checkedStream is the stream of a gRPC call with a signed body.
type checkedStream struct {
	streaming.Stream
	digest  string
	refused *Refusal // set by RecvMsg
}

// RecvMsg refuses a body other than the signed one.
func (s *checkedStream) RecvMsg(m any) error {
	msg, ok := m.(protobuf.ProtobufMsgCodec)
	if ok {
		d := &digested{ProtobufMsgCodec: msg}
		if err := s.Stream.RecvMsg(d); err != nil {
			return err
		}
		ok = d.digest == s.digest
	}
	if !ok {
		s.refused = &Refusal{Reason: ReasonBody}
		return s.refused
	}
	return nil
}
