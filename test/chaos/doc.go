//go:build linux

// Command chaos breaks a cluster of real processes on purpose and checks that it keeps its promises. `make chaos` runs it.
//
// Each bar has an id, such as D1, names one fault and states what must hold while and after it, with a number. The load is
// texts that carry their sender, a counter and a checksum. An oracle compares what senders were told, what receivers got
// and what SQL holds, so a text that is lost, doubled, reordered or changed is found whichever way it happened.
//
//	go run ./test/chaos --list                  prints the bars
//	go run ./test/chaos --bars D1,P3            runs two of them at full counts
//	go run ./test/chaos --short                 runs all of them at reduced counts, as CI does
//	go run ./test/chaos --bars D1 --seed 7      repeats a run: the seed decides every choice that is made by chance
//
// Each bar prints one line when it ends. The exit code is 0 if all passed, 1 if one missed, 2 for a wrong command line and
// 3 if the run was interrupted. The directory of a bar that missed is kept: configuration, logs, metrics and goroutines of
// every process.
//
// # Adding a bar
//
// A bar is one value of type Bar and one function, beside each other in the file of its letter, and a line in that file's
// list. Run gets a World, which starts a cluster for it (World.Start), and a Report, which takes its figures. A Bar must
// bound every wait, start processes only through World.Start, and leave nothing behind.
package main
