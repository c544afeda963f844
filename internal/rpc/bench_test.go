package rpc

import (
	"testing"

	"parley/test/benchgate/cputime"
)

func BenchmarkSignAndCheck(b *testing.B) {
	a := NewAuth(secret)
	n := 0
	b.ReportAllocs()
	defer cputime.Report(b)()
	for b.Loop() {
		if n++; n%maxNonces == 0 {
			a = NewAuth(secret)
		}
		if err := check(a, "NodeService", "Deliver", a.Sign("NodeService", "Deliver")); err != nil {
			b.Fatal(err)
		}
	}
}
