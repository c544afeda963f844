package chat

import (
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/wire"
	"parley/test/benchgate/cputime"
)

// BenchmarkHeartbeat is a heartbeat from the read buffer to its answer in the socket.
func BenchmarkHeartbeat(b *testing.B) {
	f := newFixture(b, 1)
	c, peer := liveConn(b, f.start("chat1").Server)
	beat, err := wire.AppendFrame(nil, wire.MsgHeartbeat, []byte(`{"fromuid":1001}`))
	require.NoError(b, err)
	answer := make([]byte, 64)
	b.ReportAllocs()
	defer cputime.Report(b)()
	for b.Loop() {
		if !c.Receive(beat) {
			b.Fatal("refused")
		}
		if _, err := peer.Read(answer); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTexts is a burst of 32 texts from the read buffer through the committer, over a store that does nothing, to the
// sender's answers; with a recipient on the node also to its pushes.
func BenchmarkTexts(b *testing.B) {
	for _, local := range []bool{false, true} {
		b.Run(map[bool]string{false: "stored", true: "delivered"}[local], func(b *testing.B) {
			burst := textBurst(b, local)
			b.ReportAllocs()
			defer cputime.Report(b)()
			for b.Loop() {
				burst()
			}
		})
	}
}

// BenchmarkRefusedText is a text that finds the window of its connection full: dispatch up to the committer, and back.
func BenchmarkRefusedText(b *testing.B) {
	f := newFixture(b, 1)
	c, peer := liveConn(b, f.start("chat1").Server)
	c.SetWindow(0)
	frame, err := wire.AppendFrame(nil, wire.MsgText, []byte(benchText))
	require.NoError(b, err)
	answer := make([]byte, 1024)
	b.ReportAllocs()
	defer cputime.Report(b)()
	for b.Loop() {
		if !c.Receive(frame) {
			b.Fatal("refused")
		}
		if _, err := peer.Read(answer); err != nil { // or the outbox would fill up
			b.Fatal(err)
		}
	}
}
