package main

import (
	"sync"
	"sync/atomic"

	"parley/client"
)

// shared is what all parts of a talk share.
type shared struct {
	cmd    *chatCmd
	s      *client.Session
	self   client.Profile
	print  *printer
	person bool           // somebody types
	wg     sync.WaitGroup // what runs beside the reading of lines
	failed atomic.Bool    // something went wrong, and was told
}

// fail tells of something that went wrong and does not end the chat.
func (sh *shared) fail(err error) {
	sh.print.notice("%s", explain(err))
	sh.failed.Store(true)
}
