package rpc

import (
	"errors"
	"strings"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
)

// Reasons for which a callee refuses a call, as reported to metrics and callers.
const (
	ReasonUnsigned  = "unsigned"  // not signed, although the callee has a secret
	ReasonMalformed = "malformed" // headers that no Parley node sends
	ReasonCallee    = "callee"    // signed for another process; Detail is the callee's name
	ReasonSignature = "signature" // wrong secret, or signed for another method, body digest or time
	ReasonClock     = "clock"     // signed too long ago or in the future; Detail is the clock difference of the caller
	ReasonReplay    = "replay"    // nonce used before
	ReasonFull      = "full"      // the memory of nonces is full
	ReasonBody      = "body"      // the body is not the signed one
)

// A Refusal says why a callee did not accept a call's signature. The call was not executed.
type Refusal struct {
	Reason string
	Detail string // may be empty
}

// refusalPrefix begins the error text sent to a refused caller; the reason and the detail follow.
const refusalPrefix = "parley: unauthenticated: "

// refusalCode is the code of a refusal over TTHeader. It is a business status in the header of an ordinary reply,
// because after an exception Kitex's client discards the connection. Over gRPC the code is Unauthenticated.
const refusalCode = 2401

func (r *Refusal) Error() string { return strings.TrimSuffix(refusalPrefix+r.Reason+" "+r.Detail, " ") }

// Public returns the error without confidential details.
func (r *Refusal) Public() string { return "refuses this node's signature: " + r.said() }

// said describes a refusal for an operator.
func (r *Refusal) said() string {
	switch r.Reason {
	case ReasonSignature:
		return "its [Cluster] Secret is another"
	case ReasonUnsigned:
		return "it has a [Cluster] Secret and this node has none"
	case ReasonClock:
		return "clocks differ, this node's is " + r.Detail
	}
	return r.Reason
}

// parseRefusal finds a refusal in an error text of a callee.
func parseRefusal(text string) (*Refusal, bool) {
	_, said, ok := strings.Cut(text, refusalPrefix)
	if !ok {
		return nil, false
	}
	said, _, _ = strings.Cut(said, "\n")
	reason, detail, _ := strings.Cut(said, " ")
	return &Refusal{Reason: reason, Detail: detail}, true
}

// AsRefusal returns the refusal in the error of a call made by a Client or by any gRPC client. It also searches the
// text, because gateways and libraries wrap a status in types of their own but keep its text.
func AsRefusal(err error) (*Refusal, bool) {
	if err == nil {
		return nil, false
	}
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r, true
	}
	return parseRefusal(err.Error())
}

// IsUnauthenticated reports whether a call failed because the callee did not accept its signature: another secret, a
// clock that is off, or no signature. Such a call was not executed, and would fail again.
func IsUnauthenticated(err error) bool {
	if _, ok := AsRefusal(err); ok {
		return true
	}
	st, ok := status.FromError(errors.Unwrap(err))
	if !ok {
		st, ok = status.FromError(err)
	}
	return ok && err != nil && st.Code() == codes.Unauthenticated
}

// refusedCall returns the refusal that ended a call of a Kitex client, or else err.
func refusedCall(ri rpcinfo.RPCInfo, err error) error {
	if err != nil {
		if r, ok := AsRefusal(err); ok {
			return r
		}
		return err
	}
	said := ri.Invocation().BizStatusErr()
	if said == nil || said.BizStatusCode() != refusalCode {
		return nil
	}
	if set, ok := ri.Invocation().(rpcinfo.InvocationSetter); ok {
		set.SetBizStatusErr(nil) // else Kitex would return it, and callSigned may repeat the call
	}
	if r, ok := parseRefusal(said.BizMessage()); ok {
		return r
	}
	return &Refusal{Reason: ReasonMalformed}
}
