//go:build !seededbugs

package rpc

import "time"

// wallClock is the clock by which calls are signed and signatures judged. Built with the tag seededbugs it can be wrong.
var wallClock = time.Now
