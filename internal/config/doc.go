// Package config fills a node's Config struct from its defaults, an INI file, the environment and flags, in rising order
// of precedence, and reports every fault with its place.
//
// A Config is a struct of sections; a section is a struct of keys. Field names are the names in the file; tags hold
// everything else:
//
//	type Config struct {
//		Self   config.Self  `ini:"SelfServer"` // the section's name, where it differs from the field's
//		Redis  config.Redis
//		Limits Limits
//	}
//
//	type Limits struct {
//		FrameBytes int           `help:"largest frame body" min:"2048" max:"65535"`
//		Idle       time.Duration `help:"…" min:"1s"`
//		Secret     string        `help:"…" secret:"true"`
//		Mode       string        `help:"…" oneof:"auto json text"`
//	}
//
// A key is a string, bool, integer, float64, time.Duration or []string (a comma list). An integer whose name ends in
// Bytes also takes a unit (64KiB). Two fields may share a section; embedded structs are flattened; `ini:"-"` is skipped.
// [Redis] Addr is PARLEY_REDIS_ADDR in the environment and --redis.addr as a flag; a secret key may also be given as
// the name of a file that holds it: PasswdFile, PARLEY_REDIS_PASSWD_FILE, --redis.passwdfile.
//
// The package does not depend on a node. It does not reload, and it opens no connection.
package config
