//go:build !linux

package watch

// Process requires /proc.
func Process(int) (cpu float64, rss int64, ok bool) { return 0, 0, false }

// Memory requires /proc.
func Memory() (available, slab int64) { return 0, 0 }

// ProcEntries requires /proc.
func ProcEntries() int64 { return 0 }

// MachineCPU requires /proc.
func MachineCPU() (busy, total float64) { return 0, 0 }
