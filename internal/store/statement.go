package store

import (
	"context"
	"database/sql"
	"math/bits"
	"slices"
	"strings"
	"sync"
)

// A query is one statement in both dialects. A query with a list holds the marker @ where n items go; each n is a shape
// and is prepared on its own, so callers keep the number of shapes small: padded (1, 2, 4 … 256), or cut as insertShape
// does. That bounds the statements a connection prepares, and no cache needs to evict.
type query struct {
	text [2]string // by Dialect
	item [2]string // what stands for one item of the list; "" when there is no list
	sep  string    // between items
}

const listMarker = "@"

// maxList is the longest list a statement takes.
const maxList = 256

// same is a query whose text both dialects share.
func same(text string) *query { return &query{text: [2]string{text, text}} }

// sameList is a query with a list whose text both dialects share.
func sameList(text, item, sep string) *query { return list(text, text, item, sep) }

// differ is a query that each dialect says in its own way; dialect.go holds them all.
func differ(mysql, sqlite string) *query {
	return &query{text: [2]string{MySQL: mysql, SQLite: sqlite}}
}

// list is differ with a list.
func list(mysql, sqlite, item, sep string) *query {
	return &query{text: [2]string{MySQL: mysql, SQLite: sqlite}, item: [2]string{item, item}, sep: sep}
}

// union is a query that puts together the rows of n SELECTs, each with an order and a limit of its own. There is no derived table
// on MySQL: it would copy long texts into a temporary table on disk.
func union(item string) *query {
	return &query{
		text: [2]string{listMarker, listMarker}, sep: " UNION ALL ",
		item: [2]string{MySQL: "(" + item + ")", SQLite: "SELECT * FROM (" + item + ")"},
	}
}

// sql returns the text with n items in its list.
func (q *query) sql(d Dialect, n int) string {
	text, item := q.text[d], q.item[d]
	if item == "" {
		return text
	}
	before, after, _ := strings.Cut(text, listMarker)
	var b strings.Builder
	b.Grow(len(text) + n*(len(item)+len(q.sep)))
	b.WriteString(before)
	for i := range n {
		if i > 0 {
			b.WriteString(q.sep)
		}
		b.WriteString(item)
	}
	b.WriteString(after)
	return b.String()
}

// padded returns the shape for a list of n items whose rest is filled by repeating the last: the next power of two.
func padded(n int) int {
	if n <= 1 {
		return 1
	}
	return 1 << bits.Len(uint(n-1))
}

// appendPadded appends keys to the arguments of a statement with a list, and repeats the last of them as padded says.
func appendPadded[K any](args []any, keys []K) []any {
	n := padded(len(keys))
	args = slices.Grow(args, n)
	for i := range n {
		args = append(args, keys[min(i, len(keys)-1)])
	}
	return args
}

// insertShape returns how many of n rows the next INSERT takes. Rows cannot be padded, and a shape for each n up to 256
// would be 256 statements on every connection; so 16 and fewer go at once, more go in a multiple of 16 and a rest.
func insertShape(n int) int {
	if n > maxList {
		return maxList
	}
	if n > 16 {
		return n &^ 15
	}
	return n
}

// shape names a prepared statement.
type shape struct {
	q *query
	n int
}

// preparer is a *sql.DB or a *sql.Conn.
type preparer interface {
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// statements are those prepared on the read pool. Safe for concurrent use.
type statements struct {
	on preparer
	d  Dialect

	mu   sync.Mutex // guards the following; never held while preparing
	open map[shape]*sql.Stmt
}

// get returns the statement for q with n items, preparing it the first time.
func (c *statements) get(ctx context.Context, q *query, n int) (*sql.Stmt, error) {
	key := shape{q, n}
	c.mu.Lock()
	st := c.open[key]
	c.mu.Unlock()
	if st != nil {
		return st, nil
	}
	st, err := c.on.PrepareContext(ctx, q.sql(c.d, n))
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if other := c.open[key]; other != nil { // another call was faster
		_ = st.Close() // nothing was run on it
		return other, nil
	}
	c.open[key] = st
	return st, nil
}

// drop forgets a statement that the server no longer knows.
func (c *statements) drop(q *query, n int, st *sql.Stmt) {
	key := shape{q, n}
	c.mu.Lock()
	if c.open[key] == st {
		delete(c.open, key)
	}
	c.mu.Unlock()
	_ = st.Close() // the connection behind it may be gone; nothing to save
}

// close closes every statement.
func (c *statements) close() {
	c.mu.Lock()
	open := c.open
	c.open = map[shape]*sql.Stmt{}
	c.mu.Unlock()
	for _, st := range open {
		_ = st.Close() // the pool closes next
	}
}
