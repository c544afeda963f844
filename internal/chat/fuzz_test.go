package chat

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/client"
	"parley/internal/wire"
)

// States in which the fuzzer meets a connection.
const (
	fuzzNew     = iota // nothing was said
	fuzzPending        // the 1005 is under way
	fuzzStock          // logged in as a stock client
	fuzzNative         // logged in as a native one
	fuzzStates
)

// requestIDs are what a fuzzed frame is addressed to, unless its bytes are sent as they are.
var requestIDs = []wire.MsgID{
	wire.MsgLogin, wire.MsgSearch, wire.MsgApply, wire.MsgApprove, wire.MsgText, wire.MsgHeartbeat, wire.MsgThreads,
	wire.MsgOpenThread, wire.MsgHistory, wire.MsgSync, wire.MsgGap, 1031,
	wire.MsgRecall, wire.MsgEdit, wire.MsgHide, wire.MsgGroupCreate, wire.MsgGroupMembers, wire.MsgGroupInvite, wire.MsgGroupChange, wire.MsgGroupLink, wire.MsgGroupJoin,
}

// FuzzLiveNode throws bytes at a node in each state of a session, as they are or as bodies of frames. The node must close
// the connection when its other end does, recover from nothing, and serve the session beside it.
func FuzzLiveNode(f *testing.F) {
	text, err := json.Marshal(map[string]any{
		"fromuid": 1, "touid": firstUID + 1, "thread_id": 2, "text_array": []map[string]any{{"content": "x", "unique_id": "{1}"}},
	})
	require.NoError(f, err)
	for state := range byte(fuzzStates) {
		f.Add(state, byte(0xFF), []byte{})
		f.Add(state, byte(0xFF), []byte{0x03, 0xEF, 0xFF, 0xFF, '{'})
		f.Add(state, byte(0xFF), []byte{0x80, 0x00, 0x80, 0x00})
		f.Add(state, byte(0xFF), []byte("\x03\xff\x00\x02{}\x04\x01\x00\x02{}\x03\xf1"))
		f.Add(state, byte(0), []byte(`{"uid":1003,"token":"x"}`))
		f.Add(state, byte(1), []byte(`{"uid":"1001"}`))
		f.Add(state, byte(2), []byte(`{"touid":1001,"applyname":"hi","bakname":""}`))
		f.Add(state, byte(3), []byte(`{"touid":1002,"back":""}`))
		f.Add(state, byte(4), text)
		f.Add(state, byte(6), []byte(`{"thread_id":-1}`))
		f.Add(state, byte(7), []byte(`{"other_id":1002}`))
		f.Add(state, byte(8), []byte(`{"thread_id":2,"message_id":0}`))
		f.Add(state, byte(9), []byte(`{"cursors":[{"thread_id":2,"seq":-5}],"all":true}`))
		f.Add(state, byte(12), []byte(`{"name":"x","unique_id":"{2}","uids":[1002,1002,1003,-1]}`))
		f.Add(state, byte(12), []byte(`{"name":"x","unique_id":"{1}"}`))
		f.Add(state, byte(13), []byte(`{"thread_id":3,"after_uid":-1,"limit":500}`))
		f.Add(state, byte(14), []byte(`{"thread_id":2,"uids":[1001]}`))
		f.Add(state, byte(15), []byte(`{"thread_id":3,"name":"y","mute_all":true,"history_for_new":null}`))
		f.Add(state, byte(16), []byte(`{"thread_id":3,"ttl_s":60}`))
		f.Add(state, byte(17), []byte(`{"code":"0"}`))
	}
	fix := newFixture(f, 3)
	n := fix.start("chat1", func(c *Config) { c.Limits.Linger = 50 * time.Millisecond })
	witness := fix.login(n, 1)
	round := 0
	f.Fuzz(func(t *testing.T, state, to byte, data []byte) {
		if len(data) > wire.MaxBody {
			t.Skip("longer than a frame")
		}
		fix.t = t
		c := attackAs(fix, n, state%fuzzStates)
		if to != 0xFF {
			framed, err := wire.AppendFrame(nil, requestIDs[int(to)%len(requestIDs)], data)
			require.NoError(t, err)
			data = framed
		}
		_, _ = c.Write(data) // the node may have closed already
		_ = c.(*net.TCPConn).CloseWrite()
		require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
		if _, err := io.Copy(io.Discard, c); err != nil {
			require.False(t, errors.Is(err, os.ErrDeadlineExceeded), "a connection whose other end is closed stays open")
		}
		c.Close()

		round++
		found, err := witness.Search(t.Context(), "user2")
		require.NoError(t, err)
		require.EqualValues(t, firstUID+1, found.UID)
		if round%32 == 0 {
			_, err := witness.SendText(t.Context(), client.User(firstUID+1), "still served")
			require.NoError(t, err)
		}
		require.Zero(t, counterValue(t, n.metrics.panics))
	})
}

// attackAs opens a connection of user 3 in one of the states.
func attackAs(fix *fixture, n *node, state byte) net.Conn {
	fix.t.Helper()
	c, err := net.Dial("tcp", n.ClientAddr())
	require.NoError(fix.t, err)
	if state == fuzzNew {
		return c
	}
	ticket := fix.ticket(n, 3)
	login := map[string]any{"uid": ticket.UID, "token": ticket.Token}
	if state == fuzzNative {
		login["client"], login["caps"], login["device"] = "fuzz/1", []string{wire.CapBatch, wire.CapGap, wire.CapGroups}, "fuzz"
	}
	body, err := json.Marshal(login)
	require.NoError(fix.t, err)
	frame, err := wire.AppendFrame(nil, wire.MsgLogin, body)
	require.NoError(fix.t, err)
	_, err = c.Write(frame)
	require.NoError(fix.t, err)
	if state == fuzzPending {
		return c
	}
	require.NoError(fix.t, c.SetReadDeadline(time.Now().Add(patience)))
	var head [wire.HeaderLen]byte
	_, err = io.ReadFull(c, head[:])
	require.NoError(fix.t, err)
	id, size := wire.ParseHeader(head[:])
	require.Equal(fix.t, wire.MsgLoginRsp, id)
	_, err = io.CopyN(io.Discard, c, int64(size))
	require.NoError(fix.t, err)
	return c
}
