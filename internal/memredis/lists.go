package memredis

import (
	"slices"
)

// lists are the commands on lists.
type lists struct{ *keyspace }

type list struct{ items []string }

func (*list) kind() string { return "list" }

// LLen returns the length of a list.
func (ls lists) LLen(key string) int { return len(ls.items(key)) }

func (ls lists) items(key string) []string {
	if l := objectOf[*list](ls.keyspace, key); l != nil {
		return l.items
	}
	return nil
}

// push returns the list at key, made if there is none, to be added to.
func (ls lists) push(key string) *list {
	l := objectOf[*list](ls.keyspace, key)
	if l == nil {
		l = &list{}
		ls.r.keys[key] = entry{obj: l}
	}
	return l
}

// LPush adds a value in front of a list.
func (ls lists) LPush(key, value string) int {
	l := ls.push(key)
	l.items = slices.Insert(l.items, 0, value)
	return len(l.items)
}

// RPush adds a value behind a list.
func (ls lists) RPush(key, value string) int {
	l := ls.push(key)
	l.items = append(l.items, value)
	return len(l.items)
}

// LIndex returns one value, from the end if i is negative, and false if there is none.
func (ls lists) LIndex(key string, i int) (string, bool) {
	items := ls.items(key)
	if i < 0 {
		i += len(items)
	}
	if i < 0 || i >= len(items) {
		return "", false
	}
	return items[i], true
}

// LRange returns the values from start to stop, both included and counted from the end if negative. The caller must not
// change them, nor keep them after the next write.
func (ls lists) LRange(key string, start, stop int) []string {
	return slice(ls.items(key), start, stop)
}

func slice(items []string, start, stop int) []string {
	if start < 0 {
		start = max(0, start+len(items))
	}
	if stop < 0 {
		stop += len(items)
	}
	stop = min(stop, len(items)-1)
	if start > stop {
		return nil
	}
	return items[start : stop+1]
}

// LTrim keeps only what LRange returns.
func (ls lists) LTrim(key string, start, stop int) {
	l := objectOf[*list](ls.keyspace, key)
	if l == nil {
		return
	}
	l.items = slices.Clone(ls.LRange(key, start, stop))
	if len(l.items) == 0 {
		delete(ls.r.keys, key)
	}
}
