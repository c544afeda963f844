package wire

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDecodeLogin(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		code       Code
		want       LoginRequest
	}{
		{"stock", "{\n    \"token\": \"t\",\n    \"uid\": 1001\n}\n", 0, LoginRequest{UID: 1001, Token: "t"}},
		{"stock names no device", `{"uid":1,"token":"t","device":"phone"}`, 0, LoginRequest{UID: 1, Token: "t"}},
		{
			"native", `{"uid":1,"token":"t","client":"c/1","caps":["gap"],"device":"a-b_9","heartbeat_s":5,"window":1024}`, 0,
			LoginRequest{UID: 1, Token: "t", Client: "c/1", Caps: []string{"gap"}, Device: "a-b_9", HeartbeatS: 5, Window: 1024},
		},
		{"native without device", `{"uid":1,"resume":"r","client":"c/1"}`, 0, LoginRequest{UID: 1, Resume: "r", Client: "c/1", Device: "native"}},
		{"largest uid", `{"uid":2147483647,"token":"t"}`, 0, LoginRequest{UID: MaxInt, Token: "t"}},
		{"uid too large", `{"uid":2147483648,"token":"t"}`, CodeJSON, LoginRequest{}},
		{"uid 0", `{"uid":0,"token":"t"}`, CodeUIDInvalid, LoginRequest{}},
		{"uid below", `{"uid":-1,"token":"t"}`, CodeUIDInvalid, LoginRequest{}},
		{"uid a string", `{"uid":"1","token":"t"}`, CodeJSON, LoginRequest{}},
		{"uid a fraction", `{"uid":1.5,"token":"t"}`, CodeJSON, LoginRequest{}},
		{"no token", `{"uid":1}`, CodeUIDInvalid, LoginRequest{}},
		{"long token", `{"uid":1,"token":"` + strings.Repeat("t", 257) + `"}`, CodeTokenInvalid, LoginRequest{}},
		{"long ticket", `{"uid":1,"resume":"` + strings.Repeat("t", 257) + `"}`, CodeTokenInvalid, LoginRequest{}},
		{"heartbeat too short", `{"uid":1,"token":"t","heartbeat_s":4}`, CodeBadRequest, LoginRequest{}},
		{"heartbeat too long", `{"uid":1,"token":"t","heartbeat_s":301}`, CodeBadRequest, LoginRequest{}},
		{"heartbeat below", `{"uid":1,"token":"t","heartbeat_s":-1}`, CodeBadRequest, LoginRequest{}},
		{"window too large", `{"uid":1,"token":"t","window":1025}`, CodeBadRequest, LoginRequest{}},
		{"window below", `{"uid":1,"token":"t","window":-1}`, CodeBadRequest, LoginRequest{}},
		{"device in capitals", `{"uid":1,"token":"t","client":"c","device":"Phone"}`, CodeBadRequest, LoginRequest{}},
		{"device too long", `{"uid":1,"token":"t","client":"c","device":"` + strings.Repeat("d", 33) + `"}`, CodeBadRequest, LoginRequest{}},
		{"not JSON", `uid=1`, CodeJSON, LoginRequest{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := DecodeLogin([]byte(tc.body))
			require.Equal(t, tc.code, CodeOf(err))
			if tc.code == CodeOK {
				require.Equal(t, tc.want, *got)
			}
		})
	}
}

func FuzzDecodeLogin(f *testing.F) {
	f.Add([]byte(`{"uid":1001,"token":"0b9c"}`))
	f.Add([]byte(`{"uid":1,"resume":"r","client":"c/1","device":"phone","caps":["gap"],"heartbeat_s":60,"window":64}`))
	f.Add([]byte(`{"uid":1e3,"token":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := DecodeLogin(body)
		if err != nil {
			require.Nil(t, r)
			require.NotEqual(t, CodeInternal, CodeOf(err))
			return
		}
		require.True(t, json.Valid(body))
		require.Positive(t, r.UID)
		require.NotEmpty(t, r.Token+r.Resume)
		require.Equal(t, r.Native(), r.Device != "")
		require.LessOrEqual(t, len(r.Device), MaxDevice)
		// What was accepted once is accepted again as we would write it.
		again, err := Encode(r)
		require.NoError(t, err)
		back, err := DecodeLogin(again)
		require.NoError(t, err)
		require.Equal(t, r.UID, back.UID)
		require.Equal(t, r.Device, back.Device)
	})
}

func TestDecodeText(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		code       Code
		want       TextRequest
	}{
		{
			"second generation", `{"fromuid":9,"touid":2,"thread_id":77,"text_array":[{"content":"a","unique_id":"u"}]}`, 0,
			TextRequest{ToUID: 2, ThreadID: 77, Texts: []Text{{Content: "a", UniqueID: "u"}}},
		},
		{
			"first generation", `{"fromuid":9,"touid":2,"text_array":[{"content":"a","msgid":"m"}]}`, 0,
			TextRequest{ToUID: 2, Texts: []Text{{Content: "a", UniqueID: "m", MsgID: "m"}}},
		},
		{"no texts", `{"touid":2,"thread_id":77,"text_array":[]}`, 0, TextRequest{ToUID: 2, ThreadID: 77, Texts: []Text{}}},
		{"nothing", `{}`, 0, TextRequest{}},
		{"texts no array", `{"text_array":{}}`, CodeJSON, TextRequest{}},
		{"64 texts", `{"text_array":[` + strings.Repeat(`{},`, 63) + `{}]}`, 0, TextRequest{Texts: make([]Text, 64)}},
		{"65 texts", `{"text_array":[` + strings.Repeat(`{},`, 64) + `{}]}`, CodeBadRequest, TextRequest{}},
		{"too long", `{"touid":1}` + strings.Repeat(" ", maxTextBody), CodeBadRequest, TextRequest{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := DecodeText([]byte(tc.body))
			require.Equal(t, tc.code, CodeOf(err))
			if tc.code == CodeOK {
				require.Equal(t, tc.want, *got)
			}
		})
	}
}

func TestTextFaults(t *testing.T) {
	for _, tc := range []struct {
		name string
		text Text
		code Code
	}{
		{"good", Text{Content: "a", UniqueID: "u"}, CodeOK},
		{"longest", Text{Content: strings.Repeat("a", MaxText), UniqueID: strings.Repeat("u", MaxUniqueID)}, CodeOK},
		{"too long", Text{Content: strings.Repeat("a", MaxText+1), UniqueID: "u"}, CodeBadRequest},
		{"empty", Text{UniqueID: "u"}, CodeBadRequest},
		{"NUL", Text{Content: "a\x00", UniqueID: "u"}, CodeBadRequest},
		{"not UTF-8", Text{Content: "\xff", UniqueID: "u"}, CodeBadRequest},
		{"no id", Text{Content: "a"}, CodeBadRequest},
		{"id too long", Text{Content: "a", UniqueID: strings.Repeat("u", MaxUniqueID+1)}, CodeBadRequest},
		{"id not UTF-8", Text{Content: "a", UniqueID: "\xff"}, CodeBadRequest},
		{"id with a replacement character", Text{Content: "a", UniqueID: "\ufffd-1"}, CodeBadRequest},
	} {
		t.Run(tc.name, func(t *testing.T) { require.Equal(t, tc.code, tc.text.Fault()) })
	}
}

// D3: escapes of half a surrogate pair are read as U+FFFD, so ids that differ would become one.
func TestIDsOfHalfASurrogatePairAreRefused(t *testing.T) {
	for _, id := range []string{
		`\ud800-1`, `\ud801-1`, `\uD800`, `\udc00-1`, `\udfff`, `a\udbff`, `\ud800\ud800\udc00`, `\ud800\u0041`, `\udc00\ud800`,
		`\ud800\n`, `\ud800\\udc00`, `\ud83d\ude00\ude00`,
	} {
		for _, key := range []string{"unique_id", "msgid"} {
			r, err := DecodeText([]byte(`{"text_array":[{"content":"\ud800x","` + key + `":"` + id + `"},{"content":"\ud800x","unique_id":"u"}]}`))
			require.NoError(t, err)
			require.Equal(t, CodeBadRequest, r.Texts[0].Fault(), "%s %s", key, id)
			require.Equal(t, CodeOK, r.Texts[1].Fault(), "content may hold one")
		}
	}
	for _, id := range []string{`\ud83d\ude00`, `\\ud800`, `\u0041`, `\ufffc`} {
		r, err := DecodeText([]byte(`{"text_array":[{"content":"x","unique_id":"` + id + `"}]}`))
		require.NoError(t, err)
		require.Equal(t, CodeOK, r.Texts[0].Fault(), id)
	}
}

// What plainText reads, it reads as sonic would; the fuzz target compares them too.
func TestDecodePlainText(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		plain      bool
	}{
		{"as the stock client writes it", "{\n \"fromuid\": 9,\n\t\"text_array\": [ { \"content\": \"\u4f60 a\", \"unique_id\": \"u\" } ],\r \"touid\": 2, \"thread_id\": 77 }\n", true},
		{"several", `{"touid":2,"text_array":[{"content":"a","unique_id":"u"},{"unique_id":"v","content":""},{"msgid":"w"}]}`, true},
		{"equal keys", `{"touid":2,"touid":3,"text_array":[{"content":"a","content":"b"}]}`, true},
		{"largest", `{"touid":999999999,"thread_id":999999999999999999}`, true},
		{"zero", `{"touid":0}`, true},
		{"two arrays", `{"text_array":[{"content":"a","msgid":"m"}],"text_array":[{"content":"b"}]}`, false},
		{"an escape", `{"text_array":[{"content":"\n"}]}`, false},
		{"a control character", "{\"text_array\":[{\"content\":\"\n\"}]}", false},
		{"not UTF-8", "{\"text_array\":[{\"content\":\"\xff\"}]}", false},
		{"another key", `{"touid":2,"more":1}`, false},
		{"a key in capitals", `{"TOUID":2}`, false},
		{"a number of ten digits", `{"touid":1000000000}`, false},
		{"a number too large", `{"touid":3000000000}`, false},
		{"leading zero", `{"touid":02}`, false},
		{"fraction", `{"touid":2.0}`, false},
		{"exponent", `{"touid":2e1}`, false},
		{"negative", `{"touid":-2}`, false},
		{"no number", `{"touid":,"thread_id":2}`, false},
		{"null", `{"touid":null}`, false},
		{"NUL behind it", "{\"touid\":2}\x00", false},
		{"more behind it", `{"touid":2}{`, false},
		{"comma before the end", `{"touid":2,}`, false},
		{"nothing", ``, false},
		{"cut off", `{"touid":2,"text_array":[{"content":"a"`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.plain, decodePlainText([]byte(tc.body)) != nil)
			requireAsSonic(t, []byte(tc.body))
		})
	}
	t.Run("it copies", func(t *testing.T) {
		body := []byte(`{"text_array":[{"content":"abc","unique_id":"u"}]}`)
		r := decodePlainText(body)
		clear(body)
		require.Equal(t, []Text{{Content: "abc", UniqueID: "u"}}, r.Texts)
	})
}

func requireAsSonic(t *testing.T, body []byte) {
	t.Helper()
	if got := decodePlainText(body); got != nil {
		var want TextRequest
		require.NoError(t, Decode(body, &want))
		require.Equal(t, want, *got)
	}
}

func FuzzDecodeText(f *testing.F) {
	f.Add([]byte(`{"fromuid":1001,"touid":1002,"thread_id":77,"text_array":[{"content":"hello","unique_id":"{6f1c}"}]}`))
	f.Add([]byte(`{"touid":1002,"text_array":[{"content":"\b\f\u0001\ud800","msgid":"{6f1c}"},{}]}`))
	f.Add([]byte(`{"thread_id":77,"text_array":[{"content":"a","unique_id":"\ud800-1"},{"content":"b","unique_id":"\udfff\ud83d\ude00"}]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		requireAsSonic(t, body)
		r, err := DecodeText(body)
		if err != nil {
			require.Contains(t, []Code{CodeJSON, CodeBadRequest}, CodeOf(err))
			return
		}
		require.LessOrEqual(t, len(r.Texts), MaxTexts)
		sent := make([]SentText, len(r.Texts))
		for i := range r.Texts {
			if r.Texts[i].Fault() == CodeOK {
				require.NotContains(t, r.Texts[i].UniqueID, "\ufffd")
			}
			sent[i] = SentText{UniqueID: r.Texts[i].UniqueID, Content: r.Texts[i].Content, Code: r.Texts[i].Fault()}
		}
		// Whatever was asked can be answered: this panics when it outgrows a frame.
		reply := AppendTextReply(nil, MaxInt, r.ToUID, r.ThreadID, sent)
		var back TextPush
		require.NoError(t, Decode(reply[HeaderLen:], &back))
		for i := range sent {
			require.Equal(t, sent[i].UniqueID, back.Chats[i].UniqueID, "echoed exactly")
			require.Equal(t, sent[i].Content, back.Chats[i].Content)
		}
	})
}

func TestOtherRequests(t *testing.T) {
	var search SearchRequest
	for body, want := range map[string]any{`{"uid":"bob"}`: "bob", `{"uid":7}`: 7.0, `{}`: nil} {
		search = SearchRequest{}
		require.NoError(t, Decode([]byte(body), &search))
		require.Equal(t, want, search.Query)
	}
	var apply ApplyRequest
	require.NoError(t, Decode([]byte(`{"uid":1,"touid":2,"applyname":"hi","bakname":"b"}`), &apply))
	require.Equal(t, ApplyRequest{ToUID: 2, Greeting: "hi", Back: "b"}, apply)
	var approve ApproveRequest
	require.NoError(t, Decode([]byte(`{"fromuid":1,"touid":2,"back":"b"}`), &approve))
	require.Equal(t, ApproveRequest{ToUID: 2, Back: "b"}, approve)
	var threads ThreadsRequest
	require.NoError(t, Decode([]byte(`{"uid":1,"thread_id":5}`), &threads))
	require.Equal(t, ThreadsRequest{After: 5}, threads)
	var open OpenThreadRequest
	require.NoError(t, Decode([]byte(`{"uid":1,"other_id":5}`), &open))
	require.Equal(t, OpenThreadRequest{OtherUID: 5}, open)
	var history HistoryRequest
	require.NoError(t, Decode([]byte(`{"thread_id":5,"message_id":6,"limit":7}`), &history))
	require.Equal(t, HistoryRequest{ThreadID: 5, After: 6, Limit: 7}, history)
}

func TestDecodeSync(t *testing.T) {
	r, err := DecodeSync([]byte(`{"cursors":[{"thread_id":5,"seq":6}],"all":true}`))
	require.NoError(t, err)
	require.Equal(t, &SyncRequest{Cursors: []Cursor{{5, 6}}, All: true}, r)

	many := func(n int) []byte {
		return []byte(fmt.Sprintf(`{"cursors":[%s{}]}`, strings.Repeat("{},", n-1)))
	}
	_, err = DecodeSync(many(MaxCursors))
	require.NoError(t, err)
	_, err = DecodeSync(many(MaxCursors + 1))
	require.Equal(t, CodeBadRequest, CodeOf(err))
	_, err = DecodeSync([]byte(`[`))
	require.Equal(t, CodeJSON, CodeOf(err))
}
