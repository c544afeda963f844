//go:build unix && !linux

package transport

import "testing"

func requireKeepAlive(*testing.T, int) {} // the times are the system's

// requireUnsent: see setUnsent.
func requireUnsent(*testing.T, int, int) {}
