//go:build !seededbugs

package chat

import "parley/internal/commit"

// seedBugs does nothing. Built with the tag seededbugs, for the load lab's proof that it finds them, nodes have bugs.
func seedBugs(d commit.Deps) commit.Deps { return d }
