package rpc

import (
	"errors"
	"strings"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
	"github.com/cloudwego/kitex/pkg/rpcinfo"
)

// The reasons for which a callee refuses a call, as metrics and callers see them.
const (
	ReasonUnsigned  = "unsigned"  // no signature, and the callee has a secret
	ReasonMalformed = "malformed" // headers that no caller of ours sends
	ReasonCallee    = "callee"    // signed for another process; Detail is this one's name
	ReasonSignature = "signature" // another secret, method, or anything else that is signed
	ReasonClock     = "clock"     // signed too long ago or in the future; Detail says how far the caller's clock is off
	ReasonReplay    = "replay"    // used before
	ReasonFull      = "full"      // the memory of nonces is full
	ReasonBody      = "body"      // the body is not the one that was signed
)

// Refusal says why a callee did not accept a call's signature. The call was not executed.
type Refusal struct {
	Reason string
	Detail string // may be empty
}

// refusalPrefix begins what a refused caller is told; the reason follows, then the detail.
const refusalPrefix = "parley: unauthenticated: "

// refusalCode is the code of a refusal over TTHeader, where it is a status in the header of an ordinary reply: after an
// exception Kitex's client throws the connection away. Over gRPC it is Unauthenticated.
const refusalCode = 2401

func (r *Refusal) Error() string { return strings.TrimSuffix(refusalPrefix+r.Reason+" "+r.Detail, " ") }

// Public says it without anything that is not for everybody.
func (r *Refusal) Public() string { return "refuses this node's signature: " + r.said() }

// said puts a refusal into words for an operator.
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

// parseRefusal finds a refusal in what a callee said.
func parseRefusal(text string) (*Refusal, bool) {
	_, said, ok := strings.Cut(text, refusalPrefix)
	if !ok {
		return nil, false
	}
	said, _, _ = strings.Cut(said, "\n")
	reason, detail, _ := strings.Cut(said, " ")
	return &Refusal{Reason: reason, Detail: detail}, true
}

// AsRefusal returns the refusal in the error of a call that a Client or any gRPC client made. Gateways and libraries wrap a
// status in types of their own; the text is what they keep.
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
// clock that is off, or none at all. Such a call was not executed, and will fail again.
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

// refusedCall returns the refusal that ended a call of a Kitex client, or err.
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
		set.SetBizStatusErr(nil) // Kitex would return it, and the call may be made again
	}
	if r, ok := parseRefusal(said.BizMessage()); ok {
		return r
	}
	return &Refusal{Reason: ReasonMalformed}
}
