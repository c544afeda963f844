// Package compare tests the drivers of `bench compare` against the real servers that come as Go modules. It is a module of its
// own, so that nobody who builds Parley gets these servers: run its tests in this directory, or by make compare.
package compare
