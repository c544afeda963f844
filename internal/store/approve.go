package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// FriendsNow is the approver's first message to the new friend.
const FriendsNow = "We are friends now!"

// Approval is the result of an approval.
type Approval struct {
	ThreadID int64     // the private thread of the pair, which may be older than their friendship
	Messages []Message // the applicant's greeting, unless it was empty, and the approver's FriendsNow
}

// Approve accepts applicant's pending application to approver: it makes them friends, gives them a thread if they have
// none, and appends one or two messages to it, all in one transaction, under node's fence. back is the name approver
// gives applicant, at most 255 characters. An application the other way round is accepted with it.
//
// Two users who were friends before get their old thread again.
//
// It returns ErrNoApplication if there is no pending application, ErrAlreadyFriends if they are friends (the application
// is then no longer pending), ErrNotFound if one of the users does not exist, ErrFenced, ErrSelf and ErrInvalid.
func (s *Friends) Approve(ctx context.Context, node, boot string, approver, applicant int32, back string) (Approval, error) {
	result, err := s.approve(ctx, node, boot, approver, applicant, back)
	if err != nil {
		return Approval{}, fmt.Errorf("store: user %d approves %d: %w", approver, applicant, err)
	}
	return result, nil
}

func (s *Friends) approve(ctx context.Context, node, boot string, approver, applicant int32, back string) (Approval, error) {
	if approver == applicant {
		return Approval{}, ErrSelf
	}
	if !fits(back) {
		return Approval{}, ErrInvalid
	}
	// Unguessable: a client that used the id before would make its own approval impossible.
	greetingID, helloID := newUniqueID(), newUniqueID()
	var result Approval
	var already bool
	err := s.db.transact(ctx, retryAll, func(ctx context.Context, t *tx) error {
		result, already = Approval{}, false
		if t.unclear {
			found, err := approved(ctx, t, approver, helloID, applicant, greetingID, &result)
			if err != nil || found {
				return err
			}
		}
		if err := t.checkFence(ctx, node, boot); err != nil {
			return err
		}
		// Where one has blocked the other there is no application: see Block and Apply.
		if err := lockUsers(ctx, t, approver, applicant); err != nil {
			return err
		}
		app, err := acceptApplications(ctx, t, approver, applicant)
		if err != nil {
			return err
		}
		friends, err := areFriends(ctx, t, approver, applicant)
		switch {
		case err != nil:
			return err
		case friends:
			already = true
			return nil // and commit, so that the application goes away
		case !app.pending():
			return ErrNoApplication
		}
		if err := befriend(ctx, t, approver, back, applicant, app.back); err != nil {
			return err
		}
		if result.ThreadID, err = t.ensurePair(ctx, approver, applicant); err != nil {
			return err
		}
		if app.greeting != "" {
			result.Messages = append(result.Messages, Message{Sender: applicant, UniqueID: greetingID, Content: app.greeting})
		}
		result.Messages = append(result.Messages, Message{Sender: approver, UniqueID: helloID, Content: FriendsNow})
		if err := appendOwn(ctx, t, result.ThreadID, result.Messages); err != nil {
			return err
		}
		return t.raise(ctx, []int64{result.ThreadID})
	})
	if err == nil && already {
		err = ErrAlreadyFriends
	}
	return result, err
}

func newUniqueID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return "parley:" + hex.EncodeToString(b)
}

// acceptApplications locks the applications in both directions, the one from the smaller uid first so that two who
// approve each other do not deadlock, and marks those that are pending as accepted. It returns the applicant's.
func acceptApplications(ctx context.Context, t *tx, approver, applicant int32) (application, error) {
	var app application
	pairs := [2][2]int32{{approver, applicant}, {applicant, approver}} // from, to
	if approver > applicant {
		pairs[0], pairs[1] = pairs[1], pairs[0]
	}
	var locked [2]application
	for i, p := range pairs {
		a, err := lockApplication(ctx, t, p[0], p[1])
		if err != nil {
			return app, err
		}
		locked[i] = a
		if p[0] == applicant {
			app = a
		}
	}
	for i, p := range pairs {
		if !locked[i].pending() {
			continue
		}
		if _, err := t.exec(ctx, qApplicationAccept, 1, p[0], p[1]); err != nil {
			return app, err
		}
	}
	return app, nil
}

// befriend inserts the friendship's two rows in the order of their keys. A row that exists keeps its name for the friend.
func befriend(ctx context.Context, t *tx, a int32, aBack string, b int32, bBack string) error {
	if a > b {
		a, b, aBack, bBack = b, a, bBack, aBack
	}
	if _, err := t.exec(ctx, qFriendPut, 1, a, b, aBack); err != nil {
		return err
	}
	_, err := t.exec(ctx, qFriendPut, 1, b, a, bBack)
	return err
}

// appendOwn appends messages of our own making to a thread and completes them.
func appendOwn(ctx context.Context, t *tx, thread int64, msgs []Message) error {
	var last int64
	found, err := t.one(ctx, qThreadLock, []any{thread}, &last)
	if err != nil {
		return err
	}
	if !found {
		return ErrNotFound
	}
	if last+int64(len(msgs)) > maxSeq {
		return ErrThreadFull
	}
	now := t.db.ms()
	args := make([]any, 0, messageColumns*len(msgs))
	for i := range msgs {
		last++
		m := &msgs[i]
		m.ThreadID, m.Seq, m.CreatedMS = thread, last, now
		args = append(args, thread, m.Seq, m.Sender, m.UniqueID, m.Content, now)
	}
	if _, err := t.exec(ctx, qMessagesPut, len(msgs), args...); err != nil {
		return err
	}
	if _, err = t.exec(ctx, qThreadsBump, 1, thread, last); err != nil {
		return err
	}
	return t.touch(ctx, thread)
}

// approved looks for the rows that an approval with these unique ids has stored.
func approved(ctx context.Context, t *tx, approver int32, helloID string, applicant int32, greetingID string, a *Approval) (bool, error) {
	// The locks first: the transaction whose COMMIT was unclear may still hold them.
	if err := lockUsers(ctx, t, approver, applicant); err != nil {
		return false, err
	}
	for _, m := range []Message{{Sender: applicant, UniqueID: greetingID}, {Sender: approver, UniqueID: helloID}} {
		found, err := t.one(ctx, qMessageByID, []any{m.Sender, m.UniqueID}, &m.ThreadID, &m.Seq, &m.Content, &m.Status, &m.CreatedMS)
		if err != nil {
			return false, err
		}
		if found {
			a.ThreadID = m.ThreadID
			a.Messages = append(a.Messages, m)
		}
	}
	return len(a.Messages) > 0, nil
}
