package client

import (
	"bufio"
	"context"
	"net"
	"testing"
	"time"

	"parley/internal/wire"
)

// FuzzServerBytes lets a server say anything after a login, in any pieces, to a session that has requests and texts
// waiting. Nothing may panic, hang or stay behind.
func FuzzServerBytes(f *testing.F) {
	frame := func(id wire.MsgID, body string) []byte {
		b, err := wire.AppendFrame(nil, id, []byte(body))
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add(frame(wire.MsgTextPush, `{"error":0,"fromuid":2,"thread_id":1,"chat_datas":[{"message_id":1,"unique_id":"a","content":"x","status":2}]}`))
	f.Add(frame(wire.MsgTextRsp, `{"error":0,"thread_id":1,"chat_datas":[{"message_id":1,"unique_id":"u","content":"x","status":2}]}`))
	f.Add(frame(wire.MsgTextRsp, `{"error":2003}`))
	f.Add(frame(wire.MsgApplied, `{"error":0,"applyuid":3}`))
	f.Add(frame(wire.MsgApproved, `{"error":0,"fromuid":3,"chat_datas":[]}`))
	f.Add(frame(wire.MsgReplaced, `{"error":0}`))
	f.Add(frame(wire.MsgGoodbye, `{"error":2008,"to":"127.0.0.1:1"}`))
	f.Add(frame(wire.MsgGap, `{"thread_id":1,"from_seq":9}`))
	f.Add(frame(wire.MsgGroupPush, `{"thread_id":9,"member_ver":1,"chat_datas":[{"sender":2,"msg_id":3,"thread_id":9,"unique_id":"e",`+
		`"msg_content":"{\"event\":\"invited\",\"by\":2,\"uids\":[1]}","kind":1},{"msg_id":4,"msg_content":"{","kind":1}]}`))
	f.Add(frame(wire.MsgGroupPush, `{"thread_id":9,"chat_datas":[{"msg_id":1,"msg_content":"{\"event\":\"left\",\"by\":1}","kind":1},{"msg_id":0}]}`))
	f.Add(frame(wire.MsgSyncRsp, `{"error":0,"load_more":true,"threads":[{"thread_id":1,"last_message_id":5,"chat_datas":[{"msg_id":5}]}]}`))
	f.Add(frame(wire.MsgThreadsRsp, `{"error":0,"load_more":true,"next_last_id":4,"threads":[{"thread_id":4,"type":"private"}]}`))
	f.Add(frame(wire.MsgHistoryRsp, `{"error":2001,"retry_ms":1}`))
	f.Add([]byte{0x03, 0xf0, 0xff, 0xff, '{'})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, said []byte) {
		near, far := net.Pipe()
		served := make(chan struct{})
		go func() {
			defer close(served)
			defer far.Close()
			rd := bufio.NewReader(far)
			if _, _, err := readFake(rd); err != nil {
				return
			}
			welcome, _ := wire.AppendFrame(nil, wire.MsgLoginRsp, []byte(`{"error":0,"uid":1}`))
			far.Write(welcome)
			read := make(chan struct{})
			go func() {
				defer close(read)
				for {
					if _, _, err := readFake(rd); err != nil {
						return
					}
				}
			}()
			for i := 0; i < len(said); i += 1 + len(said)/3 {
				if _, err := far.Write(said[i:min(len(said), i+1+len(said)/3)]); err != nil {
					break
				}
			}
			far.Close()
			<-read
		}()
		first := true
		s, err := Open(t.Context(), SessionOptions{
			Ticket: Ticket{UID: 1, Token: "x"}, Cursors: []Cursor{},
			Options: Options{EventBytes: 2000, RequestTimeout: time.Second, Dial: func(context.Context, string, string) (net.Conn, error) {
				if first {
					first = false
					return near, nil
				}
				return nil, net.ErrClosed
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Post(t.Context(), User(2), Draft{UniqueID: "u", Text: "x"}); err != nil && s.Err() == nil {
			t.Fatal(err)
		}
		<-served
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		for range s.Events(ctx) {
		}
		s.Cursors()
		s.Close()
	})
}
