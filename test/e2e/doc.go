// Package e2e tests the promises of a Parley cluster from outside: real node processes with a real redis-server and a
// real mariadbd, used like clients and operators do, through package client, HTTP, RPC and signals. The stores are
// opened only to create users and to check their contents.
//
// Tests that break nothing share one cluster and run one after the other. Tests that kill, pause or starve processes
// have small clusters of their own and run in parallel.
package e2e
