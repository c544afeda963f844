package session

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestABacklogKeepsEveryByteInOrderWithinItsBound fills backlogs of many bounds to the last byte they take.
func TestABacklogKeepsEveryByteInOrderWithinItsBound(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, bound := range []int{1, 100, firstPiece, firstPiece + 1, pieceBytes, pieceBytes + 1, 65540, 128 << 10, 1 << 20} {
		for range 20 {
			var l backlog
			var want bytes.Buffer
			for {
				b := make([]byte, 1+rnd.IntN(1+min(bound, 1<<rnd.IntN(17))))
				for i := range b {
					b[i] = byte(rnd.Uint32())
				}
				room := bound - l.held
				if len(b) > l.free()+room {
					b = b[:l.free()+room] // to the brim
				}
				if len(b) == 0 {
					break
				}
				before := l.held
				require.Equal(t, l.add(room, b), l.held-before)
				want.Write(b)

				held := 0
				for p := l.first; p != nil; p = p.next {
					held += cap(p.b)
				}
				require.Equal(t, held, l.held)
				require.LessOrEqual(t, held, bound)
			}
			require.Equal(t, bound, want.Len(), "no room is wasted")
			var got []byte
			for l.first != nil {
				require.LessOrEqual(t, len(l.first.b), pieceBytes)
				got = append(got, l.first.b...)
				l.shift()
			}
			require.Equal(t, want.Bytes(), got)
			require.Equal(t, backlog{}, l)
		}
	}
}
