package login

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheIDOfTheDataIsReadOncePerLife(t *testing.T) {
	reads, fail := 0, false
	d := &dataID{log: slog.New(slog.DiscardHandler), read: func(context.Context) (string, error) {
		reads++
		if fail {
			return "", errors.New("SQL is away")
		}
		return "id", nil
	}}
	require.Equal(t, "id", d.of(t.Context(), "boot"))
	require.Equal(t, "id", d.of(t.Context(), "boot"))
	require.Equal(t, 1, reads)
	fail = true
	require.Empty(t, d.of(t.Context(), "next"))
	fail = false
	require.Equal(t, "id", d.of(t.Context(), "next"))
	require.Equal(t, 3, reads)
}
