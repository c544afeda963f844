package wire

import (
	"testing"

	"parley/test/benchgate/cputime"
)

// textBody is a 1017 as a client sends it.
const textBody = `{"fromuid":1001,"touid":1002,"thread_id":77,"text_array":[{"content":"hello, how are you today?","unique_id":"{6f1c2a3e-0b4d-4c5e-9f60-718293a4b5c6}"}]}`

// traffic is what a busy connection brings in one read: twenty texts, and heartbeats between them.
func traffic(b *testing.B) (data []byte, frames int) {
	for range 20 {
		for _, f := range []struct {
			id   MsgID
			body string
		}{{MsgText, textBody}, {MsgHeartbeat, `{"fromuid":1001}`}} {
			var err error
			if data, err = AppendFrame(data, f.id, []byte(f.body)); err != nil {
				b.Fatal(err)
			}
			frames++
		}
	}
	return data, frames
}

// BenchmarkSplitter cuts forty frames, from one read and from reads of 100 bytes.
func BenchmarkSplitter(b *testing.B) {
	data, frames := traffic(b)
	run := func(b *testing.B, read int) {
		var s Splitter
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		defer cputime.Report(b)()
		for b.Loop() {
			got := 0
			for at := 0; at < len(data); at += read {
				for part := data[at:min(at+read, len(data))]; len(part) > 0; {
					_, _, rest, ok, err := s.Next(part, DefaultMaxBody)
					if err != nil {
						b.Fatal(err)
					}
					if !ok {
						break
					}
					got++
					part = rest
				}
			}
			if got != frames {
				b.Fatal(got, "frames")
			}
		}
	}
	b.Run("whole", func(b *testing.B) { run(b, len(data)) })
	b.Run("pieces", func(b *testing.B) { run(b, 100) })
}

func BenchmarkAppendFrame(b *testing.B) {
	body := []byte(textBody)
	dst := make([]byte, 0, 1024)
	b.ReportAllocs()
	defer cputime.Report(b)()
	for b.Loop() {
		if _, err := AppendFrame(dst, MsgText, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeText(b *testing.B) {
	for _, tc := range []struct{ name, body string }{
		{"plain", textBody},
		{"escaped", `{"fromuid":1001,"touid":1002,"thread_id":77,"text_array":[{"content":"\u4f60\u597d \"you\"\n","unique_id":"{6f1c2a3e-0b4d-4c5e-9f60-718293a4b5c6}"}]}`},
		{"refused", `{"fromuid":1001,"touid":"1002"}`},
	} {
		b.Run(tc.name, func(b *testing.B) {
			body := []byte(tc.body)
			_, _ = DecodeText(body) // the first one compiles the decoder
			b.ReportAllocs()
			defer cputime.Report(b)()
			for b.Loop() {
				if _, err := DecodeText(body); (err != nil) != (tc.name == "refused") {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEncode has the encoders that run for every text and every heartbeat; 1006 is put together in internal/chat.
func BenchmarkEncode(b *testing.B) {
	texts := []SentText{{
		Seq: 501, CreatedMS: 1767605472000, UniqueID: "{6f1c2a3e-0b4d-4c5e-9f60-718293a4b5c6}", Content: "hello, how are you today?",
	}}
	refused := []SentText{{UniqueID: texts[0].UniqueID, Content: texts[0].Content, Code: CodeBusy}}
	for _, tc := range []struct {
		name string
		f    func(dst []byte) []byte
	}{
		{"1018", func(dst []byte) []byte { return AppendTextReply(dst, 1001, 1002, 77, texts) }},
		{"1018refused", func(dst []byte) []byte { return AppendTextReply(dst, 1001, 1002, 77, refused) }},
		{"1019", func(dst []byte) []byte { return AppendTextBody(dst, 1001, 1002, 77, texts) }},
		{"1024", func(dst []byte) []byte { return AppendCode(dst, MsgHeartbeatRsp, CodeOK, 0) }},
	} {
		b.Run(tc.name, func(b *testing.B) {
			dst := make([]byte, 0, 1024)
			b.ReportAllocs()
			defer cputime.Report(b)()
			for b.Loop() {
				tc.f(dst)
			}
		})
	}
}
