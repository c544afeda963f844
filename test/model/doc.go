// Package model compares a running cluster with a model of it. One test takes random steps in sequence, and compares
// each answer with the prediction of a few maps (TestClusterBehavesAsItsModel). The other has users log in on several
// nodes at once, and checks that the order of events could be that of a single register
// (TestOwnershipIsLinearizable).
//
// The nodes run in the test's process with one embedded Redis and one SQLite file, so that thousands of runs take
// minutes. PARLEY_MODEL_CHECKS sets the number of runs.
package model
