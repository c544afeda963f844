//go:build seededbugs

package chat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"parley/internal/commit"
	"parley/internal/delivery"
	"parley/internal/group"
	"parley/internal/membership"
	"parley/internal/session"
	"parley/internal/store"
	"parley/internal/wire"
)

// seedBugs gives the node the bug that PARLEY_SEEDED_BUG names, once in its life: drop, duplicate, swap, corrupt or misroute
// one push, and the first three of them also the rows of a group; ack a text before it is committed, and never commit it; lose
// one that way, and its push as well. Four bugs are there always: with fence it stores texts after it was taken for dead, with
// membership it stores texts for as long as it believes that their sender may write, with index it does not notice that members
// of a group have left, with presence it shows one user to nobody and does not space frames of changed presence. Only a build with the tag has this: the load lab and bar V7 of test/chaos must find each.
func seedBugs(d commit.Deps, fence membership.FenceStore) commit.Deps {
	b := &bug{kind: os.Getenv("PARLEY_SEEDED_BUG"), deliver: d.Deliver, publish: d.Publish}
	switch b.kind {
	case "", "index", "presence": // see seedDelivery
	case "drop", "duplicate", "swap", "corrupt", "misroute":
		d.Deliver, d.Publish = b.push, b.rows
	case "ack", "lose":
		d.Store = &forgetful{Store: d.Store, bug: b}
		d.Deliver = b.push
	case "fence":
		d.Store = unfenced{d.Store, fence}
	case "membership":
		d.Store = trusting{d.Store}
	default:
		panic(fmt.Sprintf("chat: PARLEY_SEEDED_BUG: there is no %q", b.kind))
	}
	return d
}

// seedAfter is how many texts a node treats well first.
const seedAfter = 5

// bug is what a node does wrong.
type bug struct {
	kind    string
	deliver func([]session.Push, *session.Cork)
	publish func(...group.Rows)

	mu    sync.Mutex // guards the following
	seen  int
	done  bool
	held  *session.Push // a push that waits for the next to the same user
	first int32         // the first user who was pushed to
	lost  string        // unique id of a text that must not be pushed
	late  *group.Rows   // rows that wait for the next
}

// rows is the committer's Publish.
func (b *bug) rows(rows ...group.Rows) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range rows {
		b.publish(b.changeRows(r)...)
	}
}

// changeRows returns what becomes of rows of a group.
func (b *bug) changeRows(r group.Rows) []group.Rows {
	if b.late != nil {
		late := *b.late
		b.late = nil
		return []group.Rows{r, late}
	}
	if b.seen++; b.seen <= seedAfter || b.done {
		return []group.Rows{r}
	}
	b.done = true
	switch b.kind {
	case "drop":
		return nil
	case "duplicate":
		return []group.Rows{r, r}
	case "swap":
		b.late = &r
		return nil
	}
	return []group.Rows{r}
}

// push is the committer's Deliver.
func (b *bug) push(pushes []session.Push, cork *session.Cork) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range pushes {
		b.deliver(b.change(p), cork)
	}
}

// change returns what becomes of a push.
func (b *bug) change(p session.Push) []session.Push {
	if p.ID != wire.MsgTextPush {
		return []session.Push{p}
	}
	if b.lost != "" && bytes.Contains(p.Body, []byte(b.lost)) {
		return nil
	}
	if b.held != nil && b.held.To == p.To {
		held := *b.held
		b.held = nil
		return []session.Push{p, held}
	}
	if b.first == 0 {
		b.first = p.To
	}
	if b.seen++; b.seen <= seedAfter || b.done {
		return []session.Push{p}
	}
	switch b.kind {
	case "drop":
		b.done = true
		return nil
	case "duplicate":
		b.done = true
		return []session.Push{p, p}
	case "swap":
		b.done = true
		b.held = &p
		return nil
	case "corrupt":
		b.done = true
		p.Body = bytes.Clone(p.Body)
		at := bytes.LastIndex(p.Body, []byte(`"content":"`)) + 60 // in what fills a text of the load lab up
		p.Body[at] = 'a' + (p.Body[at]-'a'+1)%26
	case "misroute":
		if p.To != b.first && p.From != b.first {
			b.done = true
			p.To = b.first
		}
	}
	return []session.Push{p}
}

// forgetful is a store that says of one text that it is stored.
type forgetful struct {
	commit.Store
	*bug
	texts atomic.Int64
}

// Append stores all but the last text of one batch.
func (f *forgetful) Append(ctx context.Context, node, boot string, msgs []store.NewMessage, out []store.Appended) error {
	n := len(msgs) - 1
	if before := f.texts.Add(int64(len(msgs))) - int64(len(msgs)); before > seedAfter || before+int64(len(msgs)) <= seedAfter {
		return f.Store.Append(ctx, node, boot, msgs, out)
	}
	if f.kind == "lose" {
		f.mu.Lock()
		f.lost = msgs[n].UniqueID
		f.mu.Unlock()
	}
	out[n] = store.Appended{Seq: 1 << 20, CreatedMS: 1} // a number that the thread has not reached
	if n == 0 {
		return nil
	}
	return f.Store.Append(ctx, node, boot, msgs[:n], out[:n])
}

// unfenced is a store that takes texts of a node that was taken for dead: it takes the fence back, which a node may only do
// under a new boot id.
type unfenced struct {
	commit.Store
	fence membership.FenceStore
}

// Append repeats what the fence refused.
func (u unfenced) Append(ctx context.Context, node, boot string, msgs []store.NewMessage, out []store.Appended) error {
	err := u.Store.Append(ctx, node, boot, msgs, out)
	if !errors.Is(err, store.ErrFenced) {
		return err
	}
	if err := u.fence.Take(ctx, node, boot); err != nil {
		return err
	}
	return u.Store.Append(ctx, node, boot, msgs, out)
}

// seedFence makes a node with the bug fence believe that its row in SQL is as it wrote it: one that read the row might end
// its sessions before it has read their texts.
func seedFence(f membership.FenceStore) membership.FenceStore {
	if os.Getenv("PARLEY_SEEDED_BUG") != "fence" {
		return f
	}
	return &blindFence{FenceStore: f}
}

// blindFence is a fence that nobody takes away.
type blindFence struct {
	membership.FenceStore

	mu   sync.Mutex // guards mine
	mine string     // the boot that the node wrote last
}

// Take writes the row and remembers it.
func (b *blindFence) Take(ctx context.Context, node, boot string) error {
	err := b.FenceStore.Take(ctx, node, boot)
	if err == nil {
		b.mu.Lock()
		b.mine = boot
		b.mu.Unlock()
	}
	return err
}

// Boot returns what the node wrote, not what is there.
func (b *blindFence) Boot(context.Context, string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mine, nil
}

// trusting is a store that does not ask whether a thread's membership has changed: what the node has cached is true.
type trusting struct{ commit.Store }

// Append repeats what was refused because of a newer version, under that version.
func (t trusting) Append(ctx context.Context, node, boot string, msgs []store.NewMessage, out []store.Appended) error {
	err := t.Store.Append(ctx, node, boot, msgs, out)
	for i := range msgs {
		if msgs[i].MemberVer == store.UnknownVer || !errors.Is(out[i].Err, store.ErrMayNotWrite) {
			continue
		}
		m := msgs[i]
		m.MemberVer = out[i].MemberVer
		err = errors.Join(err, t.Store.Append(ctx, node, boot, []store.NewMessage{m}, out[i:i+1]))
		out[i].MemberVer = msgs[i].MemberVer // so that it stays cached
	}
	return err
}

// seedDelivery makes a node with the bug index believe that who was once a member of a group still is. With presence
// no watcher may see the first user that was watched, and the frames to a session have no spacing.
func seedDelivery(d delivery.Deps) delivery.Deps {
	switch os.Getenv("PARLEY_SEEDED_BUG") {
	case "index":
		d.Groups = clinging{d.Groups}
	case "presence":
		d.Rights, d.Watch.Spacing = &blind{Rights: d.Rights}, 0
	}
	return d
}

// blind are rights to see all users but one.
type blind struct {
	delivery.Rights
	hidden atomic.Int32
}

// VisibleTo leaves the first user out that was ever asked for.
func (b *blind) VisibleTo(ctx context.Context, watcher int32, of []int32) ([]int32, error) {
	b.hidden.CompareAndSwap(0, of[0])
	visible, err := b.Rights.VisibleTo(ctx, watcher, of)
	return slices.DeleteFunc(visible, func(uid int32) bool { return uid == b.hidden.Load() }), err
}

// clinging is a store whose members never leave.
type clinging struct{ memberStore }

// memberStore is what delivery needs of a store for groups.
type memberStore interface {
	Memberships(ctx context.Context, uids []int32) (map[int32][]store.ThreadMembership, error)
	LocalMembers(ctx context.Context, thread int64, uids []int32) (ver int32, members map[int32]store.Membership, err error)
}

// LocalMembers returns former members as present ones.
func (c clinging) LocalMembers(ctx context.Context, thread int64, uids []int32) (int32, map[int32]store.Membership, error) {
	ver, members, err := c.memberStore.LocalMembers(ctx, thread, uids)
	for uid, m := range members {
		m.LeftSeq = 0
		members[uid] = m
	}
	return ver, members, err
}
