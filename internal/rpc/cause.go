package rpc

import (
	"errors"
	"fmt"

	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/status"
)

// Cause describes, for a log, why a call failed. If the callee may have answered the error, Cause gives only its
// number: the text may quote the request.
func Cause(err error) string {
	if r, ok := AsRefusal(err); ok {
		return r.Public()
	}
	if said, ok := errors.AsType[*status.Error](err); ok {
		code := said.GRPCStatus().Code()
		if code == codes.Unimplemented || code == remote.UnknownService {
			return fmt.Sprintf("does not serve this call (gRPC status %d)", code)
		}
		return fmt.Sprintf("gRPC status %d (%s)", code, code)
	}
	if said, ok := errors.AsType[*remote.TransError](err); ok {
		if id := said.TypeID(); id == remote.UnknownMethod || id == remote.UnknownService {
			return fmt.Sprintf("does not serve this call (error %d)", id)
		}
		return fmt.Sprintf("error %d", said.TypeID())
	}
	return err.Error()
}
