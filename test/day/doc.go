// Package day holds tests that run long and at random: a day in the life of a cluster whose stock clients are models that
// crash where the real ones do, and a stream of messages through a connection that keeps breaking.
//
// They print their seed; PARLEY_SEED repeats it. PARLEY_ACTIONS and PARLEY_CUTS set how much is done.
package day
