package store_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"parley/internal/store"
	"parley/internal/store/sqlite"
)

func TestNewRefuses(t *testing.T) {
	pool := func(most int) *sql.DB {
		db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "db"))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		db.SetMaxOpenConns(most)
		return db
	}
	one, two, other := pool(1), pool(2), pool(0)
	code := store.Options{ErrorCode: errorCode}
	for name, c := range map[string]struct {
		d           store.Dialect
		write, read *sql.DB
		o           store.Options
		ok          bool
	}{
		"no error codes":           {store.SQLite, one, other, store.Options{}, false},
		"sqlite with two writers":  {store.SQLite, two, other, code, false},
		"sqlite with one pool":     {store.SQLite, one, one, code, false},
		"sqlite":                   {store.SQLite, one, other, code, true},
		"mysql, a single one":      {store.MySQL, one, one, code, false},
		"mysql, two":               {store.MySQL, two, two, code, true},
		"mysql, apart":             {store.MySQL, one, other, code, true},
		"mysql, without any bound": {store.MySQL, other, other, code, true},
	} {
		s, err := store.New(c.d, c.write, c.read, c.o)
		require.Equal(t, c.ok, err == nil, name)
		if c.ok {
			require.Equal(t, c.d, s.Dialect(), name)
		}
	}
}

func TestKey(t *testing.T) {
	for _, c := range [][2]string{{"Alice", "alice"}, {"ÜÑÎ", "üñî"}, {"ΣΑΣ", "σασ"}, {"张三", "张三"}, {"", ""}, {" A ", " a "}} {
		require.Equal(t, c[1], store.Key(c[0]))
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	s, err := sqlite.OpenWithMetrics(t.Context(), filepath.Join(t.TempDir(), "db"), reg)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	require.NoError(t, s.Migrate(t.Context()))
	name, boot := node(t, s, "n1")
	id, a, _ := thread(t, s, "x")
	msgs := []store.NewMessage{{ThreadID: id, Sender: a, UniqueID: "1"}, {ThreadID: id, Sender: a, UniqueID: "1"}, {ThreadID: 9, Sender: a, UniqueID: "2"}}
	for range 2 {
		require.NoError(t, s.Messages.Append(t.Context(), name, boot, msgs, make([]store.Appended, len(msgs))))
	}
	families, err := reg.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				got[f.GetName()+" "+l.GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	require.Equal(t, map[string]float64{
		"parley_store_append_rows_total stored":  1,
		"parley_store_append_rows_total resent":  3,
		"parley_store_append_rows_total refused": 2,
		"parley_store_retries_total deadlock":    0,
		"parley_store_retries_total duplicate":   1,
		"parley_store_retries_total connection":  0,
		"parley_store_retries_total refused":     0,

		"parley_store_texts_changed_total recalled": 0,
		"parley_store_texts_changed_total edited":   0,
	}, got)
}
