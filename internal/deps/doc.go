// Package deps holds no code: its test reads the imports of the whole module and fails on an edge that the layout in
// rules_test.go does not have, or on a production program that links what belongs to standalone.
package deps
