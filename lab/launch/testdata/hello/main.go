// Command hello is something small to build.
package main

func main() { println("hello") }
