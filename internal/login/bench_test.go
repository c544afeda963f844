package login

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/session"
	"parley/internal/wire"
	"parley/test/benchgate/cputime"
)

// BenchmarkLoginReply builds 1006 for a user with 50 friends, from what the caches hold.
func BenchmarkLoginReply(b *testing.B) {
	friends := make([]wire.Friend, 50)
	for i := range friends {
		friends[i].Profile = wire.Profile{UID: int32(1001 + i), Name: fmt.Sprint("user", i), Nick: fmt.Sprint("User ", i), Icon: ":/res/head_1.jpg"}
	}
	profile, err := wire.Encode(friends[0].Profile)
	require.NoError(b, err)
	lists, err := wire.Encode(friends)
	require.NoError(b, err)
	lists = append([]byte(`"apply_list":[],"friend_list":`), lists...)
	grant := grant{
		req: &wire.LoginRequest{UID: 1001, Token: "0b9c0b9c0b9c0b9c", Client: "bench/1", Device: wire.DefaultDevice},
		sid: session.SID(1), node: "chat1", caps: []string{wire.CapBatch, wire.CapResume}, resume: "0b9c0b9c0b9c0b9c",
		window: 64, heartbeat: 30 * time.Second,
	}
	b.ReportAllocs()
	defer cputime.Report(b)()
	for b.Loop() {
		if _, err := grant.frame(profile, lists); err != nil {
			b.Fatal(err)
		}
	}
}
