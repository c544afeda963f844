// Package shared holds the files that both pages are built on.
package shared

import "embed"

// Files are the modules.
//
//go:embed *.js
var Files embed.FS
