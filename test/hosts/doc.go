// Package hosts holds a test over several hosts: network namespaces of this machine, joined by a cable of their own. It
// needs root and the program ip, and leaves nothing behind.
package hosts
