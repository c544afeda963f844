// Package rpc holds all Kitex settings of the project: servers that speak TTHeader and gRPC on one port and stop when
// their context ends, clients with deadlines and a bounded pool, authentication by a shared secret, metrics, and
// quiet logs. It depends on no service: callers register handlers and make clients with the generated packages.
//
// A handler passed to a generated RegisterService must be a pointer: Kitex panics on a struct value.
package rpc
