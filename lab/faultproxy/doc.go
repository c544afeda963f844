// Package faultproxy is a TCP proxy that degrades a connection on purpose: slow, narrow, cut into small pieces,
// silent in one direction, reset after a number of bytes, half closed. A test puts it between any two processes and
// controls it from Go while data flows.
//
// Its effect on a connection depends only on the seed, the number of the connection and the bytes; only timing is not
// under its control. It works above the kernel: it cannot lose or reorder segments, and a silent proxy still accepts
// connections.
package faultproxy
