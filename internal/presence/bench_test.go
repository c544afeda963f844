package presence

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/test/benchgate/cputime"
)

// The benchmarks run many concurrent callers against a real Redis, because they measure the sharing of round trips.

const callersPerCore = 256

func BenchmarkClaim(b *testing.B) {
	p := single.backend(b, "redis").open(b, Options{})
	tokens := make([]string, b.N)
	for i := range tokens {
		tokens[i] = NewToken()
	}
	issued := strconv.FormatInt(time.Now().UnixMilli(), 10)
	for from := 0; from < len(tokens); from += 1000 {
		pipe := p.rdb.Pipeline()
		for i := from; i < min(from+1000, len(tokens)); i++ {
			pipe.Set(b.Context(), p.keys.token(int32(i), digest(tokens[i])), issued, TokenTTL)
		}
		_, err := pipe.Exec(b.Context())
		require.NoError(b, err)
	}
	var next atomic.Int32
	b.SetParallelism(callersPerCore)
	b.ReportAllocs()
	b.ResetTimer()
	defer cputime.Report(b)()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := next.Add(1) - 1
			_, err := p.Logins.Claim(b.Context(), Claim{UID: i, Token: tokens[i], SID: "0123456789abcdef", Node: "n1", Boot: "0123456789abcdef"})
			if err != nil {
				b.Errorf("claim: %v", err)
				return
			}
		}
	})
}

func BenchmarkPrelogin(b *testing.B) {
	const users = 1000
	p := single.backend(b, "redis").open(b, Options{})
	for uid := range int32(users) {
		require.NoError(b, p.Cache.PutProfile(b.Context(), uid, strconv.Itoa(int(uid)), make([]byte, 200)))
		require.NoError(b, p.Cache.PutLists(b.Context(), uid, 0, make([]byte, 1500)))
	}
	token := NewToken()
	var next atomic.Int32
	b.SetParallelism(callersPerCore)
	b.ReportAllocs()
	b.ResetTimer()
	defer cputime.Report(b)()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if pre, err := p.Logins.Prelogin(b.Context(), next.Add(1)%users, token); err != nil || pre.Lists == nil {
				b.Errorf("prelogin: %v", err)
				return
			}
		}
	})
}

func BenchmarkLocate(b *testing.B) {
	for _, size := range []int{1, 64} {
		b.Run("users="+strconv.Itoa(size), func(b *testing.B) {
			const users = 10_000
			p := single.backend(b, "redis").open(b, Options{})
			var locs []Location
			for uid := range int32(users) {
				locs = append(locs, Location{UID: uid, SID: "0123456789abcdef", Node: "n1", Boot: "0123456789abcdef"})
			}
			_, err := p.Sessions.Restore(b.Context(), locs)
			require.NoError(b, err)
			var next atomic.Int32
			b.SetParallelism(callersPerCore)
			b.ReportAllocs()
			b.ResetTimer()
			defer cputime.Report(b)()
			b.RunParallel(func(pb *testing.PB) {
				uids := make([]int32, size)
				for pb.Next() {
					from := next.Add(int32(size))
					for i := range uids {
						uids[i] = (from + int32(i)) % users
					}
					if _, err := p.Sessions.Locate(b.Context(), uids); err != nil {
						b.Errorf("locate: %v", err)
						return
					}
				}
			})
		})
	}
}

func BenchmarkPlace(b *testing.B) {
	for _, size := range []int{1, 1000} {
		b.Run("users="+strconv.Itoa(size), func(b *testing.B) {
			backend := single.backend(b, "redis")
			p := backend.open(b, Options{})
			for i := range 50 {
				name := "n" + strconv.Itoa(i)
				require.NoError(b, p.Leases.Take(b.Context(), Lease{Name: name, Boot: "b", ClientAddr: "c:1"}, ""))
				require.NoError(b, p.rdb.Persist(b.Context(), p.keys.lease(name)).Err())
				require.NoError(b, p.Leases.ReportLoad(b.Context(), name, 0, nil))
			}
			uids := make([]int32, size)
			b.SetParallelism(callersPerCore / min(size, 64))
			b.ReportAllocs()
			b.ResetTimer()
			defer cputime.Report(b)()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := p.Nodes.Place(b.Context(), uids); err != nil {
						b.Errorf("place: %v", err)
						return
					}
				}
			})
		})
	}
}
