// Package day contains long randomised tests: a day in the life of a cluster whose stock clients are models that
// crash where the real ones do, and a stream of messages over connections that keep breaking.
//
// The tests print their seed; PARLEY_SEED repeats it. PARLEY_ACTIONS and PARLEY_CUTS set the amount of work.
package day
