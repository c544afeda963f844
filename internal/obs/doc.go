// Package obs makes a process observable: logger, version, metrics registry, and the operations listener with /metrics,
// /healthz, /readyz and /debug/pprof. It does not depend on a node and has no state of its own.
package obs
