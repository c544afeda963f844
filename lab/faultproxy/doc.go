// Package faultproxy is a TCP proxy that makes a link bad on purpose: slow, narrow, cut into small pieces, silent in
// one direction, reset after a number of bytes, half closed. A test puts it between any two processes and drives it
// from Go while traffic flows.
//
// What it does to a connection follows from the seed, the number of the connection and the bytes; only time is not
// under its control. It works above the kernel: it cannot lose or reorder segments, and a connection to a silent proxy
// is still accepted.
package faultproxy
