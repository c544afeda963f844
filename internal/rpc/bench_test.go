package rpc

import (
	"testing"

	"parley/test/benchgate/cputime"
)

func BenchmarkSignAndCheck(b *testing.B) {
	a := NewAuth(secret)
	n, body := 0, make([]byte, 512)
	b.ReportAllocs()
	defer cputime.Report(b)()
	for b.Loop() {
		if n++; n%maxNonces == 0 {
			a = NewAuth(secret)
		}
		if reason := check(a, "NodeService", "Deliver", a.Sign(a.name, "NodeService", "Deliver", body)); reason != "" {
			b.Fatal(reason)
		}
	}
}
