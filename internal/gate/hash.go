package gate

// HashPassword returns what is stored for a password as a person types it, at the default cost. It takes about 30 ms of
// one core and 19 MiB, and is for tools that make users without a gate.
func HashPassword(password string) string {
	h := DefaultConfig().Hash
	return newPHC(hashParams{memoryKiB: uint32(h.MemoryKiB), passes: uint32(h.Passes), lanes: 1}, Transform(password))
}
