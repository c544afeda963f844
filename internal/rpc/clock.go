//go:build !seededbugs

package rpc

import "time"

// wallClock is the clock for signing calls and checking signatures. A build with the tag seededbugs can set it wrong.
var wallClock = time.Now
