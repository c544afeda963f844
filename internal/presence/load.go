package presence

import (
	"context"
	"fmt"
)

// ReportLoad writes a node's number of logged-in sessions and, in the same step, removes the reservations of the
// tokens used since the last report; count must include their sessions. It ignores tokens placed on another node,
// whose reservations expire there. It leaves the node's mailbox alone; see Report.
func (ls *Leases) ReportLoad(ctx context.Context, node string, count int, loggedIn []string) error {
	_, err := ls.Report(ctx, node, count, loggedIn, Kicks{})
	return err
}

// Report is like ReportLoad, and also reads the node's mailbox in the same round trip. The owner calls it every
// second, which bounds the delay of a kick left in the mailbox. handled holds the kicks returned by an earlier Report
// that the owner has carried out; Report removes them. Kicks not handled are returned again.
func (ls *Leases) Report(ctx context.Context, node string, count int, loggedIn []string, handled Kicks) (Kicks, error) {
	if !validNode(node) {
		return Kicks{}, fmt.Errorf("presence: malformed node name %q", node)
	}
	ctx, cancel := ls.bound(ctx)
	defer cancel()
	args := make([]any, 0, 4+len(loggedIn))
	args = append(args, node, count, handled.n, handled.first)
	for _, token := range loggedIn {
		args = append(args, digest(token))
	}
	entries, err := loadScript.Run(ctx, ls.rdb, loadKeys(ls.keys, node), args...).StringSlice()
	if err != nil {
		return Kicks{}, failed("report load", err)
	}
	return parseKicks(entries), nil
}

func loadKeys(k keys, node string) []string {
	return []string{keyLoginCount, k.reserve(node), k.kicks(node)}
}
