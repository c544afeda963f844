// Package hosts tests several hosts: network namespaces of this machine, connected by a virtual cable. It requires
// root and the program ip, and leaves nothing behind.
package hosts
