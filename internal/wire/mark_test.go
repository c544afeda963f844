package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDecodeMark(t *testing.T) {
	for body, want := range map[string]*MarkRequest{
		`{"thread_id":77,"read":5,"recv":7}`:           {77, 5, 7},
		`{"thread_id":77,"recv":2147483647}`:           {77, 0, 2147483647},
		`{"thread_id":77}`:                             {77, 0, 0},
		`{"thread_id":0,"read":5}`:                     nil,
		`{"thread_id":2147483648,"read":5}`:            nil,
		`{"thread_id":77,"read":-1}`:                   nil,
		`{"thread_id":77,"recv":2147483648}`:           nil,
		`{"thread_id":77,"read":99999999999999999999}`: nil,
		`[]`: nil,
	} {
		got, err := DecodeMark([]byte(body))
		if want == nil {
			require.Error(t, err, body)
			continue
		}
		require.NoError(t, err, body)
		require.Equal(t, *want, got)
	}
	for body, ok := range map[string]bool{
		`{"thread_id":77}`: true, `{"thread_id":77,"after_uid":5,"limit":500}`: true, `{"thread_id":77,"limit":501}`: false,
		`{"thread_id":77,"after_uid":-1}`: false, `{"thread_id":-1}`: false, `{}`: false, `7`: false,
	} {
		_, err := DecodeMarks([]byte(body))
		require.Equal(t, ok, err == nil, body)
	}
}

func TestMarksAreEncodedAsTheirStructsSay(t *testing.T) {
	id, n := ParseHeader(AppendMarkReply(nil, 77, 5, 7))
	require.Equal(t, MsgMarkRsp, id)
	body := AppendMarkReply(nil, 77, 5, 7)[HeaderLen:]
	require.Len(t, body, n)
	var reply MarkReply
	require.NoError(t, Decode(body, &reply))
	require.Equal(t, MarkReply{0, 77, 5, 7}, reply)
	for _, want := range []MarkPush{
		{77, []Mark{{1001, 5, 7}, {1002, 0, MaxInt}}}, {1, []Mark{}},
	} {
		var got MarkPush
		require.NoError(t, Decode(AppendMarkPush(nil, want.ThreadID, want.Marks), &got))
		require.Equal(t, want, got)
	}
}
