package ops

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
	"parley/kitex_gen/message"
)

// failing is a node whose figures cannot be had.
type failing struct {
	Caller
	err error
}

func (f failing) Figures(context.Context) (Figures, error) { return Figures{}, f.err }

func TestAnInternalErrorIsLoggedAndARefusalIsNot(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	req := &message.OperateReq{Verb: verbFigures}

	rsp := Serve(t.Context(), log, failing{err: Refusef(wire.CodeUnavailable, "not now")}, req)
	require.EqualValues(t, wire.CodeUnavailable, rsp.Error)
	require.Equal(t, "not now", rsp.Reason)
	require.Empty(t, out.String())

	rsp = Serve(t.Context(), log, failing{err: errors.New("the gauge is stuck")}, req)
	require.EqualValues(t, wire.CodeInternal, rsp.Error)
	require.NotContains(t, rsp.Reason, "gauge")
	require.Contains(t, out.String(), "the gauge is stuck")
	require.Contains(t, out.String(), "verb=figures")
}
