// Package e2e tests the promises of a Parley cluster from outside: real node processes over a real redis-server and a real
// mariadbd, spoken to as clients and operators do, through package client, HTTP, RPC and signals. The stores are opened only
// to put users into them and to see what they hold.
//
// Tests that break nothing share one cluster and run one after the other; each of those that kill, pause or starve has a
// small cluster of its own and runs beside others.
package e2e
