package legacy

import (
	"syscall"
	"testing"
	"time"

	"parley/internal/wire"
	"parley/test/benchgate/cputime"
)

// BenchmarkWheel measures a step of a wheel with 960 waiting policies: 64 are called, and wait again.
func BenchmarkWheel(b *testing.B) {
	const each = 64
	w := NewWheel(Spacing{Frame: Gap})
	never := time.Now().Add(time.Hour) // time of their last frame, so that the spacing after it does not end
	for range each {
		for step := range slots - 1 {
			w.after(time.Duration(1+step)*Resolution, &Policy{wheel: w, beat: true, due: true, last: never})
		}
	}
	var due []*Policy
	for range 2 * slots { // until each slot has grown to its size
		due = w.turn(due)
	}
	b.ReportAllocs()
	defer cputime.Report(b)()
	for b.Loop() {
		due = w.turn(due)
		if len(due) != each {
			b.Fatal(len(due), "called")
		}
	}
}

// BenchmarkPaced measures a reply from queueing it until the wheel writes it.
func BenchmarkPaced(b *testing.B) {
	c := newStock(b)
	reply := frameOf(wire.MsgSearchRsp, `{"error":0,"uid":1002,"name":"bob","nick":"Bob"}`)
	buf := make([]byte, 1024)
	b.ReportAllocs()
	defer cputime.Report(b)()
	for b.Loop() {
		c.due = true // as if a frame had just been written
		if err := c.Reply(reply); err != nil {
			b.Fatal(err)
		}
		c.Policy.last = time.Time{}
		c.pump(time.Now())
		if n, err := syscall.Read(c.fd, buf); n != len(reply) {
			b.Fatal("read ", n, err)
		}
	}
}
