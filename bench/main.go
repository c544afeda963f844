// Command bench measures the connections, logins, texts and memory of a Parley cluster, optionally while it injects
// faults. Every run verifies that no text was lost, duplicated, reordered or misrouted. docs/BENCHMARKS.md explains
// the verbs.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
