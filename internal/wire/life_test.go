package wire

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestValidType(t *testing.T) {
	for _, good := range []string{"a", "image/png", "application/vnd.x+json", "a-b.c/1", strings.Repeat("x", MaxType)} {
		require.True(t, ValidType(good), good)
	}
	for _, bad := range []string{"", "A", "image/png;q=1", "a b", "ä", "a\n", "_", strings.Repeat("x", MaxType+1)} {
		require.False(t, ValidType(bad), bad)
	}
}

// Both ways of reading a 1017 know types, and take the default for none.
func TestTypesOfTextsInRequests(t *testing.T) {
	for _, body := range []string{
		`{"thread_id":1,"text_array":[{"content":"x","unique_id":"u","type":"image/png"},{"content":"x","unique_id":"v","type":"text"}]}`,
		`{"thread_id":1,"text_array":[{"content":"\u0078","unique_id":"u","type":"image/png"},{"content":"x","unique_id":"v","type":"text"}]}`,
	} {
		r, err := DecodeText([]byte(body))
		require.NoError(t, err)
		require.Equal(t, "image/png", r.Texts[0].Type)
		require.Empty(t, r.Texts[1].Type)
		require.Equal(t, CodeOK, r.Texts[0].Fault())
		r.Texts[0].Type = "No"
		require.Equal(t, CodeBadRequest, r.Texts[0].Fault())
	}
}

func TestRowPush(t *testing.T) {
	rows := []StoredText{
		{Sender: 1001, MsgID: 2, ThreadID: 7, UniqueID: "u", Content: `"x"`, Status: StatusSent, CreatedMS: 1767605472000, ChatTime: "2026-01-05 09:31:12", Type: "image/png"},
		{Sender: 1001, MsgID: 3, ThreadID: 7, UniqueID: "v", Content: "{}", Status: StatusSent, CreatedMS: 1767605472000, ChatTime: "2026-01-05 09:31:12", Kind: KindRecall},
	}
	var got RowPush
	require.NoError(t, Decode(AppendRowPush(nil, 7, rows), &got))
	require.Equal(t, RowPush{ThreadID: 7, Chats: rows}, got)
}

func TestRequestsAboutTextsAreChecked(t *testing.T) {
	text := strings.Repeat("x", MaxText)
	for body, v := range map[string]GroupBody{
		`{"thread_id":7,"msg_id":1}`:                          new(RecallRequest),
		`{"thread_id":7,"msg_id":1,"content":"` + text + `"}`: new(EditRequest),
		`{"thread_id":7,"msg_ids":[1,2147483647]}`:            new(HideRequest),
	} {
		require.NoError(t, DecodeGroup([]byte(body), v), body)
	}
	for body, v := range map[string]GroupBody{
		`{"msg_id":1}`:                                                       new(RecallRequest),
		`{"thread_id":7}`:                                                    new(RecallRequest),
		`{"thread_id":7,"msg_id":2147483648}`:                                new(RecallRequest),
		`{"thread_id":7,"msg_id":1,"content":""}`:                            new(EditRequest),
		`{"thread_id":7,"msg_id":1,"content":"\u0000"}`:                      new(EditRequest),
		`{"thread_id":7,"msg_id":1,"content":"` + text + `x"}`:               new(EditRequest),
		`{"thread_id":7,"msg_ids":[]}`:                                       new(HideRequest),
		`{"thread_id":7,"msg_ids":[0]}`:                                      new(HideRequest),
		`{"thread_id":7,"msg_ids":[` + strings.Repeat("1,", MaxHide) + `1]}`: new(HideRequest),
	} {
		require.Equal(t, CodeBadRequest, CodeOf(DecodeGroup([]byte(body), v)), body)
	}
}
