//go:build linux

// Command chaos breaks a cluster of real processes on purpose and checks that it keeps its promises. `make chaos`
// runs it.
//
// Each bar has an id, such as D1. It names one fault and states, with a number, what must hold during and after the
// fault. The load consists of texts that contain their sender, a counter and a checksum. An oracle compares what
// senders were told, what receivers got and what SQL holds, so it detects any text that is lost, duplicated,
// reordered or changed.
//
//	go run ./test/chaos --list                  prints the bars
//	go run ./test/chaos --bars D1,P3            runs two of them at full counts
//	go run ./test/chaos --short                 runs all of them at reduced counts, as CI does
//	go run ./test/chaos --bars D1 --seed 7      repeats a run: the seed determines every random choice
//
// Each bar prints one line when it ends. The exit code is 0 if all passed, 1 if one missed, 2 for a wrong command
// line and 3 if the run was interrupted. The directory of a bar that missed is kept, with configuration, logs,
// metrics and goroutines of every process.
//
// # Adding a bar
//
// A bar consists of a value of type Bar, a function next to it in the file of its letter, and an element in that
// file's list. Run receives a World, which starts a cluster for the bar (World.Start), and a Report for its figures.
// A Bar must bound every wait, start processes only through World.Start, and leave nothing behind.
package main
