//go:build seededbugs

package rpc

import (
	"fmt"
	"os"
	"time"
)

// wallClock is off by PARLEY_SEEDED_CLOCK, a duration. It serves to prove that nodes tolerate a small clock
// difference and refuse calls with a large one.
var wallClock = func() func() time.Time {
	text := os.Getenv("PARLEY_SEEDED_CLOCK")
	if text == "" {
		return time.Now
	}
	off, err := time.ParseDuration(text)
	if err != nil {
		panic(fmt.Sprintf("rpc: PARLEY_SEEDED_CLOCK: %v", err))
	}
	return func() time.Time { return time.Now().Add(off) }
}()
