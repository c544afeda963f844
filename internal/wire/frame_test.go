package wire

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHeaderIsTwoUnsignedBigEndianNumbers(t *testing.T) {
	for _, tc := range []struct {
		raw string
		id  MsgID
		n   int
	}{
		{"\x03\xff\x00\x10", 1023, 16},
		{"\x00\x00\x00\x00", 0, 0},
		{"\x80\x00\x80\x00", 32768, 32768}, // negative in llfcchat's servers
		{"\xff\xff\xff\xff", 65535, 65535},
		{"\x08\x35\x00\x01", 2101, 1},
	} {
		id, n := ParseHeader([]byte(tc.raw))
		require.Equal(t, tc.id, id)
		require.Equal(t, tc.n, n)
		require.Equal(t, tc.raw, string(AppendHeader(nil, tc.id, tc.n)))
	}
}

func TestAppendFrame(t *testing.T) {
	frame, err := AppendFrame([]byte("x"), MsgHeartbeat, []byte(`{"fromuid":1001}`))
	require.NoError(t, err)
	require.Equal(t, "x\x03\xff\x00\x10{\"fromuid\":1001}", string(frame), "the specification's example")

	frame, err = AppendFrame(nil, MsgText, nil)
	require.NoError(t, err)
	require.Equal(t, "\x03\xf9\x00\x00", string(frame), "an empty body")

	frame, err = AppendFrame(nil, MsgText, make([]byte, MaxBody))
	require.NoError(t, err)
	require.Len(t, frame, HeaderLen+MaxBody)

	frame, err = AppendFrame([]byte("x"), MsgText, make([]byte, MaxBody+1))
	require.ErrorIs(t, err, ErrBodyTooLong)
	require.Equal(t, "x", string(frame))
}

func TestReplyIDs(t *testing.T) {
	requests := map[MsgID]MsgID{
		1005: 1006, 1007: 1008, 1009: 1010, 1013: 1014, 1017: 1018, 1023: 1024, 1025: 1026, 1027: 1028, 1029: 1030, 2102: 2103,
		2105: 2106, 2107: 2108, 2109: 2110, 2111: 2112, 2113: 2114,
		2146: 2147, 2149: 2150, 2151: 2152, 2156: 2157, 2158: 2159, 2160: 2161, 2162: 2163,
	}
	for id := MsgID(2116); id <= 2142; id += 2 {
		requests[id] = id + 1
		require.Contains(t, groupBodies(), id)
	}
	for id := range 1 << 16 {
		reply, ok := MsgID(id).Reply()
		want, request := requests[MsgID(id)]
		require.Equal(t, request, ok, id)
		require.Equal(t, want, reply, id)
	}
	require.Equal(t, "1017", MsgText.String())
	require.False(t, MsgHiddenPush.Free())
	require.True(t, (MsgHiddenPush + 1).Free())
}

func TestCodeOf(t *testing.T) {
	cause := errors.New("cause")
	for _, tc := range []struct {
		err  error
		code Code
	}{
		{nil, CodeOK},
		{cause, CodeInternal},
		{Refuse(CodeBusy, cause), CodeBusy},
		{Fatal(CodeBadRequest, nil), CodeBadRequest},
		{fmt.Errorf("chat: x: %w", Refuse(CodeNotAllowed, nil)), CodeNotAllowed},
	} {
		require.Equal(t, tc.code, CodeOf(tc.err))
	}
	require.ErrorIs(t, Refuse(CodeBusy, cause), cause)
	require.EqualError(t, Refuse(CodeBusy, cause), "code 2001: cause")
	require.EqualError(t, Fatal(CodeBusy, nil), "code 2001")
	e, _ := errors.AsType[*Error](Fatal(CodeBusy, nil))
	require.True(t, e.Fatal)
}
