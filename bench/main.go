// Command bench is the load lab of Parley: it measures connections, logins, texts and memory, under faults if asked, and
// proves of every run that nothing was lost, doubled, reordered or misrouted. docs/BENCHMARKS.md explains the verbs.
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
