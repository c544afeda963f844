package conform

import (
	"strings"
	"time"

	"parley/internal/wire"
)

var hostileChecks = []Check{
	{
		Name: "hostile-bodies", Rules: []string{"D13"}, Doc: "no body of any request harms another session, or its own beyond a close",
		run: func(a *attempt) {
			witness := a.stock(a.grow(0))
			victim := a.third()
			bodies := []string{
				"", "{", "null", "[]", `""`, "7", "\xff\xfe\xfd", `{"uid":"x","touid":"x","fromuid":[],"thread_id":{},"message_id":"","other_id":null}`,
				`{"uid":1e99,"touid":-99999999999,"thread_id":1e300,"message_id":99999999999999999999,"other_id":1.5}`,
				`{"text_array":7}`, `{"text_array":[7]}`, `{"text_array":[{"content":7,"unique_id":[]}],"thread_id":1}`,
				strings.Repeat("[", 8000), `{"a":` + strings.Repeat(`{"a":`, 1000) + `1` + strings.Repeat("}", 1001), "{\"uid\":\"\x00\"}",
			}
			for _, id := range []wire.MsgID{1007, 1009, 1013, 1017, 1023, 1025, 1027, 1029, 2102} {
				c := a.stock(victim)
				for i, body := range bodies {
					c.sendBody(id, body)
					if i%4 == 3 {
						// A close is an answer too, and for stock clients sometimes the only one.
						if _, err := c.readFor(30 * time.Millisecond); err != nil && !isTimeout(err) {
							c = a.stock(victim)
						}
					}
				}
				c.close()
			}
			witness.alive()
		},
	},
	{
		Name: "hostile-ids", Rules: []string{"R21"}, Doc: "unknown ids, and ids that only servers send, are ignored",
		run: func(a *attempt) {
			c := a.stock(a.grow(0))
			for _, id := range []wire.MsgID{0, 1, 1006, 1008, 1012, 1018, 1019, 1021, 1031, 1048, 2101, 2104, 32768, 65535} {
				c.send(id, fields{"error": 0, "uid": c.uid})
			}
			c.alive()
		},
	},
	{
		Name: "hostile-half-frames", Rules: []string{"D38", "D47", "D61"}, Doc: "frames that never end do not delay others",
		run: func(a *attempt) {
			witness := a.stock(a.grow(0))
			for range 20 {
				c := a.dial(witness.addr)
				c.sendBytes([]byte{0x03, 0xED, 0x00, 0x50, '{'})
			}
			began := time.Now()
			witness.alive()
			a.want(time.Since(began) < atOnce, "expected an answer at once, got it after %v", time.Since(began))
		},
	},
	{
		Name: "hostile-flood", Rules: []string{"D53", "D59"}, Doc: "a client that asks without reading is cut off or slowed, and others are not",
		run: func(a *attempt) {
			witness := a.stock(a.grow(0))
			c := a.stock(a.third())
			frame, err := wire.AppendFrame(nil, 1007, []byte(`{"uid":"`+jsonText(witness.uid)+`"}`))
			a.ok("encode", err)
			for range 2000 {
				_ = c.nc.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
				if _, err := c.nc.Write(frame); err != nil {
					break // closed, or no longer read from
				}
			}
			began := time.Now()
			witness.alive()
			a.want(time.Since(began) < atOnce, "expected an answer at once, got it after %v", time.Since(began))
		},
	},
}

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}
