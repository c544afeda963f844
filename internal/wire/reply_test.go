package wire

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Golden bodies: what a stock client was seen to take, and what other people's clients will be written against. A change
// here is a change of the protocol.
func TestGoldenBodies(t *testing.T) {
	profile := Profile{UID: 1002, Name: "bob", Nick: "Bob", Icon: ":/res/head_2.jpg", Sex: 1, Desc: "<hi>"}
	chats := []StoredText{{
		Sender: 1009, MsgID: 501, ThreadID: 77, UniqueID: "u", Content: "hi", ChatTime: "2026-01-05 09:30:00",
		Status: StatusSent, CreatedMS: 1767605400000,
	}}
	const profileJSON = `"uid":1002,"name":"bob","nick":"Bob","icon":":/res/head_2.jpg","sex":1,"desc":"<hi>"`
	const chatJSON = `{"sender":1009,"msg_id":501,"thread_id":77,"unique_id":"u","msg_content":"hi","chat_time":"2026-01-05 09:30:00","status":2,"created_ms":1767605400000}`
	for _, tc := range []struct {
		name string
		v    any
		want string
	}{
		{"friend", Friend{profile, "bobby"}, `{` + profileJSON + `,"back":"bobby"}`},
		{"application", Application{profile, 0}, `{` + profileJSON + `,"status":0}`},
		{"1008", SearchReply{Profile: profile}, `{"error":0,` + profileJSON + `}`},
		{
			"1011",
			AppliedPush{ApplyUID: 1009, Name: "carol", Desc: "hi", Icon: "i", Nick: "c", Sex: 1},
			`{"error":0,"applyuid":1009,"name":"carol","desc":"hi","icon":"i","nick":"c","sex":1}`,
		},
		{
			"1014",
			ApproveReply{UID: 1009, Name: "carol", Nick: "c", Icon: "i", Chats: chats},
			`{"error":0,"uid":1009,"name":"carol","nick":"c","icon":"i","sex":0,"chat_datas":[` + chatJSON + `]}`,
		},
		{
			"1015",
			ApprovedPush{FromUID: 1001, ToUID: 1009, Name: "alice", Nick: "a", Icon: "i", Chats: chats},
			`{"error":0,"fromuid":1001,"touid":1009,"name":"alice","nick":"a","icon":"i","sex":0,"chat_datas":[` + chatJSON + `]}`,
		},
		{
			"1026",
			ThreadsReply{UID: 1001, LoadMore: true, NextLast: 77, Threads: []Thread{{ID: 77, Type: "private", User1: 1001, User2: 1009, LastSeq: 3}}},
			`{"error":0,"uid":1001,"load_more":true,"next_last_id":77,"threads":[{"thread_id":77,"type":"private","user1_id":1001,"user2_id":1009,"last_seq":3}]}`,
		},
		{
			"1026 of nobody",
			ThreadsReply{UID: 1001, Threads: []Thread{}},
			`{"error":0,"uid":1001,"load_more":false,"next_last_id":0,"threads":[]}`,
		},
		{"1028", OpenThreadReply{UID: 1001, OtherUID: 1002, ThreadID: 80}, `{"error":0,"uid":1001,"other_id":1002,"thread_id":80}`},
		{
			"1030",
			HistoryReply{ThreadID: 77, LastID: 501, Chats: chats},
			`{"error":0,"thread_id":77,"last_message_id":501,"load_more":false,"chat_datas":[` + chatJSON + `]}`,
		},
		{
			"2103",
			SyncReply{Threads: []HistoryReply{{ThreadID: 77, LastID: 501, LoadMore: true, Chats: chats}}},
			`{"error":0,"load_more":false,"threads":[{"error":0,"thread_id":77,"last_message_id":501,"load_more":true,"chat_datas":[` + chatJSON + `]}]}`,
		},
		{"2101", Goodbye{Error: CodeDraining, Reason: "r", RetryMS: 5, To: "h:1"}, `{"error":2008,"reason":"r","retry_ms":5,"to":"h:1"}`},
		{"2101 to nowhere", Goodbye{Error: CodeSlowConsumer, Reason: "r"}, `{"error":2004,"reason":"r","retry_ms":0}`},
		{"2104", Gap{ThreadID: 7, FromSeq: 12}, `{"thread_id":7,"from_seq":12}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Encode(tc.v)
			require.NoError(t, err)
			require.Equal(t, tc.want, string(got))
		})
	}
}

func TestGoldenFrames(t *testing.T) {
	require.Equal(t, "\x04\x00\x00\x0b{\"error\":0}", string(HeartbeatFrame))
	require.Equal(t, "\x03\xf2\x00\x1d{\"error\":2001,\"retry_ms\":500}", string(AppendCode(nil, MsgApplyRsp, CodeBusy, 500)))
	require.Equal(t, "x\x03\xee\x00\x0e{\"error\":1010}", string(AppendCode([]byte("x"), MsgLoginRsp, CodeTokenInvalid, 0)))
	require.Equal(t, "\x08\x38\x00\x1f{\"thread_id\":77,\"from_seq\":503}", string(AppendGap(nil, 77, 503)))

	texts := []SentText{
		{Seq: 503, CreatedMS: 1767605472123, UniqueID: "{6f1c}", Content: "hello \"you\"\n日本"},
		{UniqueID: "", Content: "", Code: CodeBadRequest},
	}
	const want = `{"error":0,"fromuid":1001,"touid":1002,"thread_id":77,"chat_datas":[` +
		`{"message_id":503,"unique_id":"{6f1c}","content":"hello \"you\"\n日本","status":2,"chat_time":"2026-01-05 09:31:12","created_ms":1767605472123},` +
		`{"message_id":0,"unique_id":"","content":"","code":2005,"status":1,"chat_time":""}]}`
	got := AppendTextReply([]byte("x"), 1001, 1002, 77, texts)
	require.Equal(t, "x\x03\xfa\x01\x2a"+want, string(got))
	require.Equal(t, want, string(AppendTextBody(nil, 1001, 1002, 77, texts)))
	require.Len(t, want, 0x12a)
	require.Equal(t, `{"error":0,"fromuid":1,"touid":2,"thread_id":3,"chat_datas":[]}`, string(AppendTextBody(nil, 1, 2, 3, nil)),
		"a request without texts is answered all the same")

	var read TextPush
	require.NoError(t, Decode(got[1+HeaderLen:], &read))
	require.Equal(t, TextPush{FromUID: 1001, ToUID: 1002, ThreadID: 77, Chats: []PushedText{
		{Seq: 503, UniqueID: "{6f1c}", Content: "hello \"you\"\n日本", Status: StatusSent, ChatTime: "2026-01-05 09:31:12", CreatedMS: 1767605472123},
		{Code: CodeBadRequest, Status: StatusFailed},
	}}, read)
}

// answer builds the 1018 of a request, all of it stored or all of it refused.
func answer(t *testing.T, body []byte, code Code) []byte {
	t.Helper()
	r, err := DecodeText(body)
	require.NoError(t, err)
	texts := make([]SentText, len(r.Texts))
	for i, e := range r.Texts {
		texts[i] = SentText{UniqueID: e.UniqueID, Content: e.Content, Code: code}
		if code == CodeOK {
			texts[i].Seq, texts[i].CreatedMS = MaxInt, 253402300799999
		}
	}
	return AppendTextReply(nil, MaxInt, MaxInt, 1<<63-1, texts)
}

func TestTextReplyAlwaysFitsAFrame(t *testing.T) {
	// For each way of writing a character the longest request there is; the reply repeats it with more around it.
	for _, unit := range []string{`x`, `\b`, `\f`, `\n`, `\"`, `\u0001`, `\u001f`, "\x7f", `\ud800`, "é", "日", "\u2028", "😀", `\u0000`} {
		for _, n := range []int{1, 2, 12, MaxTexts} {
			const open, between, end = `{"text_array":[{"content":"`, `"},{"content":"`, `"}]}`
			room := maxTextBody - len(open) - len(end) - (n-1)*len(between)
			each := strings.Repeat(unit, room/n/len(unit))
			body := []byte(open + strings.Repeat(each+between, n-1) + each + end)
			require.LessOrEqual(t, len(body), maxTextBody)
			for _, code := range []Code{CodeOK, CodeBadRequest} {
				require.LessOrEqual(t, len(answer(t, body, code)), HeaderLen+MaxBody, "%d of %q", n, unit)
			}
		}
	}
	// The same in the unique ids, and nothing at all.
	body := []byte(`{"text_array":[{"msgid":"` + strings.Repeat(`\b`, (maxTextBody-40)/2) + `"}]}`)
	require.LessOrEqual(t, len(answer(t, body, CodeBadRequest)), HeaderLen+MaxBody)
	body = []byte(`{"text_array":[` + strings.Repeat(`{},`, MaxTexts-1) + `{}]}`)
	require.LessOrEqual(t, len(answer(t, body, CodeBadRequest)), HeaderLen+MaxBody)
}

func TestOneStoredTextAlwaysFitsAHistoryPage(t *testing.T) {
	// What a page adds to the strings of an element is 224 bytes at most, and to the elements no more.
	text := StoredText{
		Sender: MaxInt, MsgID: MaxInt, ThreadID: MaxInt, UniqueID: strings.Repeat("\x01", MaxUniqueID),
		Content: strings.Repeat("\x01", MaxText), ChatTime: "2026-01-05 09:30:00", Status: StatusSent, CreatedMS: 253402300799999, Kind: KindEdit,
	}
	const overhead = 224
	one, err := Encode(HistoryReply{ThreadID: MaxInt, LastID: MaxInt, LoadMore: true, Chats: []StoredText{text}})
	require.NoError(t, err)
	strs := StringLen(text.Content) + StringLen(text.UniqueID)
	require.LessOrEqual(t, len(one), 2*overhead+strs)
	two, err := Encode(HistoryReply{ThreadID: MaxInt, LastID: MaxInt, LoadMore: true, Chats: []StoredText{text, text}})
	require.NoError(t, err)
	require.LessOrEqual(t, len(two)-len(one), overhead+strs)
	// A page of 32 KiB may be overshot by one such text.
	require.LessOrEqual(t, 32<<10+2*overhead+strs, MaxBody)
}

func TestHotRepliesAllocateNothing(t *testing.T) {
	buf := make([]byte, 0, 4096)
	texts := []SentText{{Seq: 1, CreatedMS: 1767605472123, UniqueID: "{6f1c2a3e-0b4d-4c5e-9f60-718293a4b5c6}", Content: "hello \"you\" 日本"}}
	require.Zero(t, testing.AllocsPerRun(100, func() { buf = append(buf[:0], HeartbeatFrame...) }), "heartbeat")
	require.Zero(t, testing.AllocsPerRun(100, func() { buf = AppendCode(buf[:0], MsgTextRsp, CodeBusy, 1000) }), "code")
	require.Zero(t, testing.AllocsPerRun(100, func() { buf = AppendTextReply(buf[:0], 1, 2, 3, texts) }), "text reply")
}

func FuzzTextBody(f *testing.F) {
	f.Add("hello", "{6f1c}", int64(1), int64(1767605472123), int32(0))
	f.Add("\x00\xff\b", "\"", int64(0), int64(-1), int32(2005))
	f.Fuzz(func(t *testing.T, content, unique string, seq, ms int64, code int32) {
		if len(content)+len(unique) > 9000 {
			return
		}
		body := AppendTextBody(nil, 1, 2, 3, []SentText{{Seq: seq, CreatedMS: ms, UniqueID: unique, Content: content, Code: Code(code)}})
		require.True(t, json.Valid(body), "%q", body)
		var got TextPush
		require.NoError(t, Decode(body, &got))
		require.Equal(t, seq, got.Chats[0].Seq)
		require.Equal(t, code == 0, got.Chats[0].Status == StatusSent)
	})
}

func TestARefusalOfTextsSaysWhenToTryAgain(t *testing.T) {
	texts := []SentText{{UniqueID: "u", Content: "c", Code: CodeBusy}}
	require.Equal(t, AppendTextReply(nil, 1, 2, 3, texts), AppendTextRefusal(nil, 1, 2, 3, texts, 0))
	frame := AppendTextRefusal([]byte("before"), 1, 2, 3, texts, 250)[len("before"):]
	id, n := ParseHeader(frame)
	require.Equal(t, MsgTextRsp, id)
	require.Equal(t, len(frame)-HeaderLen, n)
	require.JSONEq(t, `{"retry_ms":250,"error":0,"fromuid":1,"touid":2,"thread_id":3,"chat_datas":[
		{"message_id":0,"unique_id":"u","content":"c","code":2001,"status":1,"chat_time":""}]}`, string(frame[HeaderLen:]))
}
