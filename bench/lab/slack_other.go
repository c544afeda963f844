//go:build !linux

package lab

import "time"

// takeSlack does nothing here: the generator requires Linux.
func takeSlack(time.Duration) error { return nil }
