// Package web tests the chat page in a real browser, Debian's Chromium, against a cluster of real processes. The scripts beside the tests
// drive it with playwright-core; they ask the test for what only it can do, such as killing a node. With SCREENSHOTS=DIR they
// leave pictures.
package web
