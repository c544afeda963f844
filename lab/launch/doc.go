// Package launch starts a whole Parley cluster as real processes: redis-server, mariadbd and the node binaries, on
// free loopback ports, each configured by a generated INI file, each ended by its own process id. Tests use it through
// launchtest, the load generator uses it directly.
//
// It knows the nodes as their users do, by command line, configuration file and ports. It imports no package of a
// node, speaks none of their protocols, and never looks a process up by name.
package launch
