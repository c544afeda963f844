package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"parley/client"
)

// directory knows which users and groups there are, and what they are called.
type directory struct {
	*shared

	mu     sync.Mutex       // guards the following
	users  map[int32]string // names, by uid
	groups map[int64]string // names of groups, and "" for private threads, by thread
}

func newDirectory(sh *shared) *directory {
	return &directory{shared: sh, users: make(map[int32]string), groups: make(map[int64]string)}
}

// threads lists the threads and remembers which are groups, and their names.
func (d *directory) threads(ctx context.Context) ([]client.Thread, error) {
	threads, err := d.s.Threads(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, th := range threads {
		d.groups[th.ID] = th.Name
	}
	return threads, err
}

// presentThreads lists the threads as threads does; none if they cannot be read now.
func (d *directory) presentThreads(ctx context.Context) []client.Thread {
	ctx, cancel := context.WithTimeout(ctx, d.cmd.Timeout)
	defer cancel()
	threads, err := d.threads(ctx)
	if err != nil {
		return nil
	}
	return threads
}

// present returns those of threads that are groups that the user is in.
func present(threads []client.Thread) (groups []client.Thread) {
	for _, th := range threads {
		if !th.Private && th.Left == 0 {
			groups = append(groups, th)
		}
	}
	return groups
}

// groupName returns the name of a thread's group; "" for a private thread, and while a group's name cannot be read.
func (d *directory) groupName(thread int64) string {
	d.mu.Lock()
	name, known := d.groups[thread]
	d.mu.Unlock()
	if known {
		return name
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := d.threads(ctx); err != nil {
		return ""
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.groups[thread]
}

// nameGroup remembers the name of a thread's group.
func (d *directory) nameGroup(thread int64, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.groups[thread] = name
}

// forgetGroups has all threads looked up again.
func (d *directory) forgetGroups() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.groups)
}

// findGroup finds a group by its number with # before it, else by name, one that the user is in before one that it has left,
// else by a name written in other capitals.
func (d *directory) findGroup(ctx context.Context, who string) (client.Thread, bool, error) {
	threads, err := d.threads(ctx)
	if err != nil {
		return client.Thread{}, false, err
	}
	matches := []func(client.Thread) bool{
		func(th client.Thread) bool { return "#"+strconv.FormatInt(th.ID, 10) == who },
		func(th client.Thread) bool { return th.Left == 0 && th.Name == who },
		func(th client.Thread) bool { return th.Left == 0 && strings.EqualFold(th.Name, who) },
		func(th client.Thread) bool { return strings.EqualFold(th.Name, who) },
	}
	for _, match := range matches {
		var found []client.Thread
		for _, th := range threads {
			if !th.Private && match(th) {
				found = append(found, th)
			}
		}
		switch len(found) {
		case 0:
			continue
		case 1:
			return found[0], true, nil
		}
		numbers := make([]string, len(found))
		for i, th := range found {
			numbers[i] = fmt.Sprintf("#%d", th.ID)
		}
		return client.Thread{}, false, fmt.Errorf("you have %d groups called %s: choose by number, %s", len(found), printable(who), join(numbers, "or"))
	}
	return client.Thread{}, false, nil
}

// name returns what to call a user; a stranger in a group is looked up once.
func (d *directory) name(uid int32) string {
	if uid == d.self.UID {
		return d.self.Name
	}
	d.mu.Lock()
	name, ok := d.users[uid]
	d.mu.Unlock()
	if ok {
		return name
	}
	name = "uid " + strconv.Itoa(int(uid))
	for _, f := range d.s.Friends() {
		if f.UID == uid {
			name, ok = f.Name, true
		}
	}
	if !ok {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		p, err := d.s.Search(ctx, strconv.Itoa(int(uid)))
		if err == nil {
			name, ok = p.Name, true
		}
	}
	if ok {
		d.mu.Lock()
		d.users[uid] = name
		d.mu.Unlock()
	}
	return name
}

// who returns what to call a user in a sentence.
func (d *directory) who(uid int32) string {
	if uid == d.self.UID {
		return "you"
	}
	return printable(d.name(uid))
}

// whoAll returns what to call users in a sentence.
func (d *directory) whoAll(uids []int32) string {
	const most = 10
	var list []string
	for _, uid := range uids[:min(len(uids), most)] {
		list = append(list, d.who(uid))
	}
	if more := len(uids) - most; more > 0 {
		list = append(list, fmt.Sprintf("%d more", more))
	}
	return join(list, "and")
}

// namesOf lists the names of users, in their order.
func (d *directory) namesOf(uids []int32) string {
	names := make([]string, len(uids))
	for i, uid := range uids {
		names[i] = printable(d.name(uid))
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// findUser looks a user up by name or uid.
func (d *directory) findUser(ctx context.Context, who string) (client.Profile, error) {
	p, err := d.s.Search(ctx, who)
	if client.CodeOf(err) == client.CodeUIDInvalid {
		return p, noUser{who, err}
	}
	return p, err
}

// noUser says that a search found nobody.
type noUser struct {
	who string
	err error
}

func (e noUser) Error() string { return "there is no user " + printable(e.who) }

func (e noUser) Unwrap() error { return e.err }
