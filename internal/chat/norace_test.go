//go:build !race

package chat

// raceEnabled: the race detector allocates by itself.
const raceEnabled = false
