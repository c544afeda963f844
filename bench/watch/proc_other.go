//go:build !linux

package watch

// Process needs /proc.
func Process(int) (cpu float64, rss int64, ok bool) { return 0, 0, false }

// Memory needs /proc.
func Memory() (available, slab int64) { return 0, 0 }

// ProcEntries needs /proc.
func ProcEntries() int64 { return 0 }

// MachineCPU needs /proc.
func MachineCPU() (busy, total float64) { return 0, 0 }
