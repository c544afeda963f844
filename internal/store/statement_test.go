package store

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestShapes(t *testing.T) {
	for n, want := range map[int]int{0: 1, 1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 128: 128, 129: 256, 256: 256} {
		require.Equal(t, want, padded(n), n)
	}
	shapes := map[int]bool{}
	for n := 1; n <= 2000; n++ {
		for rest, steps := n, 0; rest > 0; steps++ {
			take := insertShape(rest)
			require.Positive(t, take)
			require.LessOrEqual(t, take, min(rest, maxList))
			require.LessOrEqual(t, steps, n/maxList+1, "statements for %d rows", n)
			shapes[take] = true
			rest -= take
		}
	}
	require.LessOrEqual(t, len(shapes), 31, "prepared inserts on a connection")
}

func TestQueryText(t *testing.T) {
	q := list("IN (@) FOR UPDATE", "IN (@)", "?", ",")
	require.Equal(t, "IN (?,?,?) FOR UPDATE", q.sql(MySQL, 3))
	require.Equal(t, "IN (?)", q.sql(SQLite, 1))
	require.Equal(t, "a@b", same("a@b").sql(SQLite, 1))
	require.Equal(t, "x (a=? AND b=?) OR (a=? AND b=?)", sameList("x @", "(a=? AND b=?)", " OR ").sql(MySQL, 2))
}

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		d    Dialect
		code int
		want class
	}{
		{MySQL, 1062, classDuplicate},
		{MySQL, 1213, classRetry},
		{MySQL, 1205, classRetry},
		{MySQL, 1927, classConn},
		{MySQL, 1290, classRefused}, // read-only
		{MySQL, 1142, classRefused},
		{MySQL, 1047, classRefused}, // Galera, out of its cluster
		{MySQL, 1665, classSystem},  // binlog_format=STATEMENT
		{MySQL, 1366, classRow},
		{MySQL, 1406, classRow},
		{MySQL, 1644, classRow},
		{SQLite, 2067, classDuplicate},
		{SQLite, 1555, classDuplicate},
		{SQLite, 5, classRetry},
		{SQLite, 517, classRetry}, // BUSY_SNAPSHOT
		{SQLite, 1811, classRow},  // a trigger
		{SQLite, 275, classRow},   // a CHECK
		{SQLite, 13, classSystem},
		{SQLite, 1, classSystem},
	} {
		require.Equal(t, c.want, dialectOf(c.d).classify(c.code), "%s %d", c.d, c.code)
	}
}
