// Package model holds a running cluster against a model of it. One test takes random steps, one after the other, and
// compares each answer with what a few maps predict (TestClusterBehavesAsItsModel). The other lets users log in on
// several nodes at once and asks whether the order of events could have been that of a single register
// (TestOwnershipIsLinearizable).
//
// The nodes run in the test's process over one embedded Redis and one SQLite file, so that thousands of runs take
// minutes. PARLEY_MODEL_CHECKS sets the number of runs.
package model
