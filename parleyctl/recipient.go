package main

import (
	"fmt"

	"parley/client"
)

// recipient is to whom texts go: a friend or a group.
type recipient struct {
	uid    int32
	thread int64
	name   string
}

func (r recipient) none() bool { return r.uid == 0 && r.thread == 0 }

func (r recipient) dest() client.To {
	if r.thread != 0 {
		return client.InThread(r.thread)
	}
	return client.User(r.uid)
}

// String says who it is, and the number by which it can be told from others of the name.
func (r recipient) String() string {
	if r.thread != 0 {
		return fmt.Sprintf("the group %s (#%d)", printable(r.name), r.thread)
	}
	return fmt.Sprintf("%s (uid %d)", printable(r.name), r.uid)
}
