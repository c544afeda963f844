//go:build !linux

package lab

import "time"

// takeSlack does nothing: the generator needs Linux.
func takeSlack(time.Duration) error { return nil }
