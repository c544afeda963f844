//go:build !seededbugs

package chat

import (
	"parley/internal/commit"
	"parley/internal/delivery"
	"parley/internal/membership"
)

// seedBugs does nothing. Built with the tag seededbugs, for the load lab's proof that it finds them, nodes have bugs.
func seedBugs(d commit.Deps, _ membership.FenceStore) commit.Deps { return d }

// seedFence does nothing either.
func seedFence(f membership.FenceStore) membership.FenceStore { return f }

// seedDelivery does nothing either.
func seedDelivery(d delivery.Deps) delivery.Deps { return d }
