package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
)

// Errors a caller may test with errors.Is. Everything else that this package returns is the database's fault: nothing
// was stored, or it is not known whether it was, and repeating the call is safe.
var (
	// ErrNotFound: no such user, thread or row.
	ErrNotFound = errors.New("not found")
	// ErrExists: the name or the e-mail address belongs to another user.
	ErrExists = errors.New("name or e-mail address is taken")
	// ErrAlreadyFriends: there is nothing to apply for or to approve.
	ErrAlreadyFriends = errors.New("already friends")
	// ErrSelf: both ends are the same user.
	ErrSelf = errors.New("both users are the same")
	// ErrNoApplication: the applicant has no pending application to this user.
	ErrNoApplication = errors.New("no pending application")
	// ErrFenced: the node's row in node_fence does not carry its boot id. The node must stop serving.
	ErrFenced = errors.New("this node is fenced off")
	// ErrNotMember: the user is not in the thread, or not any more.
	ErrNotMember = errors.New("not a member of the thread")
	// ErrMayNotWrite: the sender is not in the thread, or no friend of its other member, or muted.
	ErrMayNotWrite = errors.New("sender may not write to the thread")
	// ErrBlocked: the target has blocked the user, who must not be told.
	ErrBlocked = errors.New("blocked by the other user")
	// ErrBlocking: the user has blocked the target.
	ErrBlocking = errors.New("the other user is blocked")
	// ErrTooMany: the user has MaxBlocks blocks.
	ErrTooMany = errors.New("too many blocks")
	// ErrNotAllowed: the member's role in the group does not permit it, or the user was removed from the group.
	ErrNotAllowed = errors.New("not allowed in the group")
	// ErrOwner: the owner keeps the role, and stays, until the group is transferred or dissolved.
	ErrOwner = errors.New("the owner must transfer or dissolve the group")
	// ErrGroupFull: the group has as many members as a group may have.
	ErrGroupFull = errors.New("the group is full")
	// ErrTooManyGroups: the user is in MaxGroups groups.
	ErrTooManyGroups = errors.New("too many groups")
	// ErrTooManyLinks: the group has MaxLinks links.
	ErrTooManyLinks = errors.New("too many links")
	// ErrBadLink: there is no such link, or it has expired, was used up, or its group was dissolved.
	ErrBadLink = errors.New("the link cannot be used")
	// ErrNoText: there is no such text, or it was recalled, or the user may not read it.
	ErrNoText = errors.New("no such text")
	// ErrTooLate: the text is too old to be recalled or edited by its sender.
	ErrTooLate = errors.New("the text is too old")
	// ErrTooManyHidden: the user has hidden MaxHidden messages of the thread.
	ErrTooManyHidden = errors.New("too many hidden messages")
	// ErrInvalid: a value does not fit its column. Repeating the call is useless.
	ErrInvalid = errors.New("value does not fit")
	// ErrUniqueIDTaken: the sender used this unique id before, in another thread.
	ErrUniqueIDTaken = errors.New("unique id was used in another thread")
	// ErrThreadFull: the thread's sequence reached 2^31-1.
	ErrThreadFull = errors.New("thread is full")
	// ErrForeignSchema: the schema holds tables of llfcchat. Nothing was changed.
	ErrForeignSchema = errors.New("the schema holds tables of another program")
	// ErrSettings: Prepare refuses the server's settings. The text says what to change.
	ErrSettings = errors.New("unsuitable settings of the SQL server")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("store is closed")
)

// class says what a database error means for the transaction that met it.
type class uint8

const (
	classRow       class = iota // the fault of a row or of a value: repeating is useless, other rows may do
	classDuplicate              // a unique key is taken
	classRetry                  // deadlock, lock time-out, busy: roll back, wait a little, repeat
	classConn                   // the connection is gone: repeat on another
	classRefused                // this connection may not: read-only server, missing privilege; a new one may reach another server
	classSystem                 // the database refuses all rows: disk full, no such table
	classCanceled               // the caller's context ended
)

// dbError is an error of the database, as opposed to one of this package.
type dbError struct {
	class class
	err   error
}

func (e *dbError) Error() string { return e.err.Error() }
func (e *dbError) Unwrap() error { return e.err }

// classOf returns the class of err and whether err comes from the database at all.
func classOf(err error) (class, bool) {
	e, ok := errors.AsType[*dbError](err)
	if !ok {
		return 0, false
	}
	return e.class, true
}

// wrap classifies an error of database/sql. It returns nil for nil.
func (db *database) wrap(err error) error {
	if err == nil {
		return nil
	}
	return &dbError{class: db.classify(err), err: err}
}

// wrapOpening classifies an error of getting a connection, which is never the fault of a row.
func (db *database) wrapOpening(err error) error {
	if err == nil {
		return nil
	}
	c := db.classify(err)
	if c == classRow || c == classDuplicate {
		c = classSystem
	}
	return &dbError{class: c, err: err}
}

func (db *database) classify(err error) class {
	// The context first: a cancelled statement may come back as an interrupt or a broken connection as well.
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return classCanceled
	}
	if code, ok := db.code(err); ok {
		return db.d.classify(code)
	}
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return classConn
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return classConn
	}
	return classRow
}
