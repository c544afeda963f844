// Package js holds the files of the JavaScript client, for programs that serve it to browsers. parley.js is the module to import; it
// imports the others by relative paths.
package js

import "embed"

// Files are the modules.
//
//go:embed *.js
var Files embed.FS
