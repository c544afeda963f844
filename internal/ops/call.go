package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cloudwego/kitex/client/callopt"

	"parley/internal/wire"
	"parley/kitex_gen/message"
)

// The verbs of NodeService.Operate.
const (
	verbFigures  = "figures"
	verbSessions = "sessions"
	verbDrain    = "drain"
	verbUndrain  = "undrain"
	verbMove     = "move"
	verbKick     = "kick"
)

// Error is a node's refusal, with a reason for the operator.
type Error struct {
	Code   wire.Code
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("ops: %s (%d)", e.Reason, e.Code) }

// Refusef returns an Error.
func Refusef(code wire.Code, format string, args ...any) error {
	return &Error{Code: code, Reason: fmt.Sprintf(format, args...)}
}

// Serve answers a call of NodeService.Operate from a node. An error that is no refusal is logged: the caller learns only that there
// was one.
func Serve(ctx context.Context, log *slog.Logger, n Node, req *message.OperateReq) *message.OperateRsp {
	result, err := serve(ctx, n, req)
	var body []byte
	if err == nil {
		body, err = json.Marshal(result)
	}
	if err == nil {
		return &message.OperateRsp{Result: body}
	}
	refusal, ok := errors.AsType[*Error](err)
	if !ok {
		refusal = &Error{Code: wire.CodeInternal, Reason: "internal error"}
		log.Error("operator's request failed", "verb", req.Verb, "err", err)
	}
	return &message.OperateRsp{Error: int32(refusal.Code), Reason: refusal.Reason}
}

func serve(ctx context.Context, n Node, req *message.OperateReq) (any, error) {
	switch req.Verb {
	case verbFigures:
		return n.Figures(ctx)
	case verbSessions:
		return with(req.Args, func(q SessionQuery) (any, error) { return n.Sessions(ctx, q) })
	case verbDrain:
		return with(req.Args, func(p Pace) (any, error) { return struct{}{}, n.Drain(ctx, p) })
	case verbUndrain:
		return struct{}{}, n.Undrain(ctx)
	case verbMove:
		return with(req.Args, func(m Move) (any, error) { return struct{}{}, n.Move(ctx, m) })
	case verbKick:
		return with(req.Args, func(k Kick) (any, error) { return n.Kick(ctx, k) })
	}
	return nil, Refusef(wire.CodeBadRequest, "the node does not know %q; it may be an older one", req.Verb)
}

func with[T any](args []byte, f func(T) (any, error)) (any, error) {
	var v T
	if err := json.Unmarshal(args, &v); err != nil {
		return nil, Refusef(wire.CodeBadRequest, "malformed arguments")
	}
	return f(v)
}

// Caller makes a call of NodeService.Operate.
type Caller func(ctx context.Context, req *message.OperateReq) (*message.OperateRsp, error)

var _ Node = Caller(nil)

// call makes a call and decodes its result. A refusal is returned as *Error.
func call[T any](ctx context.Context, c Caller, verb string, args any) (result T, err error) {
	req := &message.OperateReq{Verb: verb}
	if args != nil {
		if req.Args, err = json.Marshal(args); err != nil {
			return result, fmt.Errorf("ops: %s: %w", verb, err)
		}
	}
	rsp, err := c(ctx, req)
	if err != nil {
		return result, fmt.Errorf("ops: %s: %w", verb, err)
	}
	if rsp.Error != 0 {
		return result, &Error{Code: wire.Code(rsp.Error), Reason: rsp.Reason}
	}
	if err := json.Unmarshal(rsp.Result, &result); err != nil {
		return result, fmt.Errorf("ops: %s: %w", verb, err)
	}
	return result, nil
}

// Figures implements Node.
func (c Caller) Figures(ctx context.Context) (Figures, error) {
	return call[Figures](ctx, c, verbFigures, nil)
}

// Sessions implements Node.
func (c Caller) Sessions(ctx context.Context, q SessionQuery) (SessionPage, error) {
	return call[SessionPage](ctx, c, verbSessions, q)
}

// Drain implements Node.
func (c Caller) Drain(ctx context.Context, p Pace) error {
	_, err := call[struct{}](ctx, c, verbDrain, p)
	return err
}

// Undrain implements Node.
func (c Caller) Undrain(ctx context.Context) error {
	_, err := call[struct{}](ctx, c, verbUndrain, nil)
	return err
}

// Move implements Node.
func (c Caller) Move(ctx context.Context, m Move) error {
	_, err := call[struct{}](ctx, c, verbMove, m)
	return err
}

// Kick implements Node.
func (c Caller) Kick(ctx context.Context, k Kick) (int, error) {
	return call[int](ctx, c, verbKick, k)
}

// Calling returns a Caller of a generated client.
func Calling(c interface {
	Operate(ctx context.Context, req *message.OperateReq, options ...callopt.Option) (*message.OperateRsp, error)
},
) Caller {
	return func(ctx context.Context, req *message.OperateReq) (*message.OperateRsp, error) {
		return c.Operate(ctx, req)
	}
}
