package wire

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

type frame struct {
	id   MsgID
	body string
}

// split runs the chunks of a stream through a Splitter as a connection does, spoiling each chunk after its use.
func split(t testing.TB, s *Splitter, limit int, chunks ...[]byte) (frames []frame, err error) {
	t.Helper()
	for _, chunk := range chunks {
		data := bytes.Clone(chunk)
		all := data
		for len(data) > 0 {
			id, body, rest, ok, err := s.Next(data, limit)
			if err != nil {
				return frames, err
			}
			require.Less(t, s.Held(), HeaderLen+max(limit, 0), "less than a frame is held")
			if !ok {
				require.Empty(t, rest)
				break
			}
			frames = append(frames, frame{id, string(body)})
			data = rest
		}
		for i := range all {
			all[i] = 0xee
		}
	}
	return frames, nil
}

func stream(t testing.TB, frames []frame) []byte {
	t.Helper()
	var b []byte
	for _, f := range frames {
		var err error
		b, err = AppendFrame(b, f.id, []byte(f.body))
		require.NoError(t, err)
	}
	return b
}

func TestSplitterFindsTheSameFramesHoweverTheStreamIsCut(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		const limit = 100
		want := make([]frame, 1+rnd.IntN(8))
		for i := range want {
			body := make([]byte, rnd.IntN(limit+1))
			if rnd.IntN(4) == 0 {
				body = body[:0]
			}
			for j := range body {
				body[j] = byte(rnd.Uint32())
			}
			want[i] = frame{MsgID(rnd.Uint32()), string(body)}
		}
		var chunks [][]byte
		for left := stream(t, want); len(left) > 0; {
			n := min(1+rnd.IntN(1+rnd.IntN(3*limit)), len(left))
			chunks = append(chunks, left[:n])
			left = left[n:]
		}
		var s Splitter
		got, err := split(t, &s, limit, chunks...)
		require.NoError(t, err)
		require.Equal(t, want, got, "seed %d", seed)
		require.Zero(t, s.Held())
		require.Nil(t, s.held, "an idle splitter holds no memory")
	}
}

func TestSplitterAtEveryCut(t *testing.T) {
	want := []frame{{1017, `{"a":1}`}, {1023, ""}, {65535, "x"}}
	raw := stream(t, want)
	for i := range len(raw) + 1 {
		for j := i; j <= len(raw); j++ {
			var s Splitter
			got, err := split(t, &s, 10, raw[:i], raw[i:j], raw[j:])
			require.NoError(t, err)
			require.Equal(t, want, got, "cut at %d and %d", i, j)
		}
	}
}

func TestSplitterLimit(t *testing.T) {
	for _, limit := range []int{0, 1, MaxLoginBody, DefaultMaxBody, MaxBody} {
		for _, pieces := range []bool{false, true} {
			run := func(n int) ([]frame, error) {
				raw := append(AppendHeader(nil, 1005, n), make([]byte, n)...)
				chunks := [][]byte{raw}
				if pieces {
					chunks = [][]byte{raw[:1], raw[1:3], raw[3:]}
				}
				var s Splitter
				return split(t, &s, limit, chunks...)
			}
			got, err := run(limit)
			require.NoError(t, err)
			require.Len(t, got, 1)
			require.Len(t, got[0].body, limit)
			if limit == MaxBody {
				continue
			}
			_, err = run(limit + 1)
			require.ErrorIs(t, err, ErrFrameTooLong, "%d, in pieces: %v", limit, pieces)
		}
	}
}

func TestSplitterRefusesAsSoonAsTheHeaderIsThere(t *testing.T) {
	var s Splitter
	_, err := split(t, &s, 10, AppendHeader(nil, 1017, 65535))
	require.ErrorIs(t, err, ErrFrameTooLong)
	s = Splitter{}
	_, err = split(t, &s, 10, []byte{3}, []byte{0xf9, 0xff, 0xff})
	require.ErrorIs(t, err, ErrFrameTooLong)
}

func TestSplitterTakesTheLimitOfTheMoment(t *testing.T) {
	// A frame that began before the login and is longer than a login may be.
	var s Splitter
	raw := append(AppendHeader(nil, 1017, 20), make([]byte, 20)...)
	_, err := split(t, &s, 30, raw[:10])
	require.NoError(t, err)
	_, err = split(t, &s, 10, raw[10:])
	require.ErrorIs(t, err, ErrFrameTooLong)
}

func TestSplitterAllocatesNothingForWholeFrames(t *testing.T) {
	raw := stream(t, []frame{{1023, `{"fromuid":1}`}, {1023, ""}})
	var s Splitter
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for data := raw; len(data) > 0; {
			_, _, rest, ok, err := s.Next(data, 100)
			if !ok || err != nil {
				t.Fatal("no frame")
			}
			data = rest
		}
	}))
}

func FuzzSplitter(f *testing.F) {
	f.Add([]byte("\x03\xff\x00\x10{\"fromuid\":1001}\x03\xff\x00\x00"), uint16(3), uint16(9), uint16(2048))
	f.Add([]byte("\xff\xff\xff\xff"), uint16(1), uint16(2), uint16(100))
	f.Add([]byte("\x03\xf9\x00\x05abc"), uint16(0), uint16(5), uint16(5))
	f.Fuzz(func(t *testing.T, raw []byte, i, j, limit uint16) {
		a := min(int(i), len(raw))
		b := max(a, min(int(j), len(raw)))
		var whole, cut Splitter
		one, errOne := split(t, &whole, int(limit)+1, raw)
		three, errThree := split(t, &cut, int(limit)+1, raw[:a], raw[a:b], raw[b:])
		require.Equal(t, one, three)
		require.Equal(t, errOne, errThree)
		if errOne != nil {
			return
		}
		require.Equal(t, whole.Held(), cut.Held())
		// What came out and what is held is what went in.
		var back []byte
		for _, fr := range one {
			back, _ = AppendFrame(back, fr.id, []byte(fr.body))
		}
		require.Equal(t, string(raw), string(append(back, whole.held...)))
	})
}
