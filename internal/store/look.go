package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"strings"

	"github.com/pressly/goose/v3"

	"parley/internal/names"
)

var (
	qLookHolder = same("SELECT l.uid,COALESCE(u.name,'') FROM user_look l LEFT JOIN user u ON u.uid=l.uid WHERE l.look=?")
	qLookPut    = same("INSERT INTO user_look(look,uid) VALUES(?,?)")
	qLookMove   = same("UPDATE user_look SET uid=? WHERE look=? AND uid=?")
)

// look is what is stored of how a name looks; nil for a name that shows nothing.
func look(name string) []byte {
	l := names.Look(name)
	if l == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(l))
	return sum[:]
}

// claimLook gives the look of name to uid, or returns ErrExists if another user's name looks like that. A user who has
// another name by now holds nothing.
func claimLook(ctx context.Context, t *tx, uid int32, name string) error {
	l := look(name)
	if l == nil {
		return nil
	}
	var holder int32
	var held string
	found, err := t.one(ctx, qLookHolder, []any{l}, &holder, &held)
	switch {
	case err != nil:
		return err
	case found && bytes.Equal(look(held), l):
		return ErrExists
	case found:
		res, err := t.exec(ctx, qLookMove, 1, uid, l, holder)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err == nil && n == 0 {
			err = ErrExists // another registration was faster
		}
		return err
	}
	_, err = t.exec(ctx, qLookPut, 1, l, uid)
	if c, ours := classOf(err); ours && c == classDuplicate {
		return ErrExists
	}
	return err
}

// lookVersion is the migration that stores the looks of users who registered before there were any. It is written in Go,
// and may be repeated when it was cut short.
const lookVersion = 5

func lookMigration(d Dialect) *goose.Migration {
	nothing := &goose.GoFunc{RunDB: func(context.Context, *sql.DB) error { return nil }}
	if d == MySQL {
		return goose.NewGoMigration(lookVersion, &goose.GoFunc{RunDB: func(ctx context.Context, db *sql.DB) error {
			return fillLooks(ctx, db, "INSERT IGNORE INTO user_look(look,uid) VALUES ")
		}}, nothing)
	}
	return goose.NewGoMigration(lookVersion, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
		return fillLooks(ctx, tx, "INSERT OR IGNORE INTO user_look(look,uid) VALUES ")
	}}, nothing)
}

type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// fillLooks stores the looks of all users, the oldest first: of users whose names look alike already, the first holds it.
func fillLooks(ctx context.Context, q queryer, put string) error {
	const most = 500
	for last := int32(0); ; {
		var args []any
		n := 0
		rows, err := q.QueryContext(ctx, "SELECT uid,name FROM user WHERE uid>? ORDER BY uid LIMIT ?", last, most)
		if err != nil {
			return err
		}
		for rows.Next() {
			var name string
			if err := rows.Scan(&last, &name); err != nil {
				_ = rows.Close() // the first error counts
				return err
			}
			n++
			if l := look(name); l != nil {
				args = append(args, l, last)
			}
		}
		if err := rows.Err(); err != nil {
			return err
		}
		if len(args) > 0 {
			text := put + strings.TrimSuffix(strings.Repeat("(?,?),", len(args)/2), ",")
			if _, err := q.ExecContext(ctx, text, args...); err != nil {
				return fmt.Errorf("looks of users up to %d: %w", last, err)
			}
		}
		if n < most {
			return nil
		}
	}
}

// nameKeys are the keys under which a name may be stored, the likeliest first: users who registered before names were
// composed and wide forms replaced have the plain lower-cased text.
func nameKeys(name string) []string {
	key, old := names.Key(name), Key(name)
	if key == old {
		return []string{key}
	}
	return []string{old, key}
}
