// Package obs is what an operator sees of a process: its logger, its version, its metrics registry and the operations
// listener with /metrics, /healthz, /readyz and /debug/pprof. It knows no node and holds no state of its own.
package obs
