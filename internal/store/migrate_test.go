package store_test

import (
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
)

func init() {
	bodies["four stores migrate an empty database at once"] = testMigrate
	bodies["a migration that died between two statements is completed"] = testMigrateAfterCrash
	bodies["a database of version 1 is brought up to date, and keeps what it holds"] = testMigrateFromFirst
	bodies["a migration cut short at any statement is completed"] = testMigrateCutShort
	bodies["durability settings are checked"] = testDurability
}

func testMigrate(t *testing.T, d *database) {
	stores := make([]*store.Store, 4)
	for i := range stores {
		stores[i] = d.open(t)
	}
	failed := make(chan error, len(stores))
	var wg sync.WaitGroup
	for _, s := range stores {
		wg.Go(func() { failed <- s.Migrate(t.Context()) })
	}
	wg.Wait()
	for range stores {
		require.NoError(t, <-failed)
	}
	versions := scan[int](t, d.sql(t), "SELECT COUNT(*) FROM goose_db_version WHERE version_id>0")
	require.Equal(t, migrations(t), versions, "each migration ran once")
	for i, s := range stores {
		require.NoError(t, s.Migrate(t.Context()), "nothing to do")
		user(t, s, string(rune('a'+i)))
	}
}

// goose makes its table of versions and then the first row of it. On MySQL the table is there for good before the row is.
func testMigrateAfterCrash(t *testing.T, d *database) {
	s := d.open(t)
	if d.engine == store.SQLite {
		return // both are one transaction there
	}
	require.NoError(t, s.Migrate(t.Context()))
	_, err := d.sql(t).ExecContext(t.Context(), "DELETE FROM goose_db_version")
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, s.Migrate(t.Context()))
		require.Equal(t, 1+migrations(t), scan[int](t, d.sql(t), "SELECT COUNT(*) FROM goose_db_version"))
	}
	user(t, s, "a")
}

// migrations counts the files of the schema, and the migration that is written in Go.
func migrations(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("schema/mysql")
	require.NoError(t, err)
	return len(files) + 1
}

func testMigrateFromFirst(t *testing.T, d *database) {
	s := d.open(t)
	require.NoError(t, s.MigrateTo(t.Context(), 1))
	db := d.sql(t)
	for _, q := range []string{
		"INSERT INTO user(uid,name,name_key,email,email_key,pwd) VALUES(1001,'a','a','a@x','a@x','p'),(1002,'b','b','b@x','b@x','p')",
		"INSERT INTO friend(self_id,friend_id) VALUES(1001,1002),(1002,1001)",
		"INSERT INTO chat_thread(id,last_seq) VALUES(7,1)",
		"INSERT INTO private_chat(thread_id,user1_id,user2_id) VALUES(7,1001,1002)",
		"INSERT INTO chat_message(thread_id,seq,sender_id,unique_id,content,created_ms) VALUES(7,1,1001,'u1','hello',5)",
		"INSERT INTO chat_thread(id,type) VALUES(8,'group')",
		"INSERT INTO group_chat(thread_id,name) VALUES(8,'g')",
		"INSERT INTO group_chat_member(thread_id,user_id) VALUES(8,1001)",
	} {
		_, err := db.ExecContext(t.Context(), q)
		require.NoError(t, err, q)
	}
	require.NoError(t, s.Migrate(t.Context()))

	require.Equal(t, 0, scan[int](t, db, "SELECT member_ver FROM chat_thread WHERE id=7"))
	require.Equal(t, 0, scan[int](t, db, "SELECT deleted_ms FROM user WHERE uid=1001"))
	require.Equal(t, 0, scan[int](t, db, "SELECT COUNT(*) FROM user_block"))
	require.Equal(t, 2, scan[int](t, db, "SELECT COUNT(*) FROM user_look"))
	for _, q := range []string{
		"SELECT kind+edited_ms+edited_seq FROM chat_message", "SELECT from_seq+left_seq+removed FROM group_chat_member",
		"SELECT owner_id+muted+history_for_new+members+dissolved_ms FROM group_chat", "SELECT COUNT(*) FROM group_link",
	} {
		require.Equal(t, 0, scan[int](t, db, q), q)
	}
	require.Empty(t, scan[string](t, db, "SELECT type FROM chat_message"))
	require.Empty(t, scan[string](t, db, "SELECT left_name FROM group_chat_member"))
	name, boot := node(t, s, "n1")
	out := make([]store.Appended, 1)
	require.NoError(t, s.Messages.Append(t.Context(), name, boot, []store.NewMessage{{ThreadID: 7, Sender: 1002, UniqueID: "u2", Content: "you"}}, out))
	require.Equal(t, int64(2), out[0].Seq)
	require.Len(t, history(t, s, 7), 2)
}

// MySQL commits each statement of a migration alone, and the version only after the last.
func testMigrateCutShort(t *testing.T, d *database) {
	s := d.migrated(t)
	if d.engine == store.SQLite {
		return // a migration is one transaction there
	}
	db := d.sql(t)
	undo := []string{
		"DO 0",
		"ALTER TABLE private_chat DROP KEY private_chat_active1, DROP KEY private_chat_active2, DROP COLUMN active",
		"ALTER TABLE chat_thread DROP COLUMN active",
		"DROP TABLE hidden_message",
		"ALTER TABLE chat_message DROP COLUMN edited_seq",
		"DROP TABLE group_link",
		"ALTER TABLE group_chat_member DROP COLUMN from_seq, DROP COLUMN left_seq, DROP COLUMN left_name, DROP COLUMN removed",
		"ALTER TABLE group_chat DROP COLUMN owner_id, DROP COLUMN muted, DROP COLUMN history_for_new, DROP COLUMN members, DROP COLUMN dissolved_ms",
		"ALTER TABLE chat_message DROP COLUMN kind, DROP COLUMN type, DROP COLUMN edited_ms",
		"DELETE FROM user_look",
		"DROP TABLE user_look",
		"DROP TABLE data_identity",
		"DROP TABLE user_block",
		"ALTER TABLE user DROP COLUMN deleted_ms",
		"ALTER TABLE chat_thread DROP COLUMN member_ver",
	}
	for n := range undo {
		for _, q := range append(undo[:n+1:n+1], "DELETE FROM goose_db_version WHERE version_id>=2") {
			_, err := db.ExecContext(t.Context(), q)
			require.NoError(t, err, q)
		}
		require.NoError(t, s.Migrate(t.Context()), "cut short before the last %d", n)
		for _, q := range []string{
			"SELECT COUNT(*) FROM user_block", "SELECT COUNT(deleted_ms) FROM user", "SELECT COUNT(active) FROM private_chat", "SELECT COUNT(member_ver) FROM chat_thread",
			"SELECT COUNT(edited_ms) FROM chat_message", "SELECT COUNT(dissolved_ms) FROM group_chat",
			"SELECT COUNT(removed) FROM group_chat_member", "SELECT COUNT(*) FROM group_link",
			"SELECT COUNT(edited_seq) FROM chat_message", "SELECT COUNT(*) FROM hidden_message",
		} {
			require.Zero(t, scan[int](t, db, q), q)
		}
	}
}

func testDurability(t *testing.T, d *database) {
	s := d.migrated(t)
	warnings, err := s.DurabilityWarnings(t.Context())
	require.NoError(t, err)
	require.Empty(t, warnings)
	if d.engine == store.SQLite {
		return // the DSN is ours, and nobody else can change a connection's settings
	}
	_, err = d.sql(t).ExecContext(t.Context(), "SET GLOBAL innodb_flush_log_at_trx_commit=2")
	require.NoError(t, err)
	warnings, err = s.DurabilityWarnings(t.Context())
	require.NoError(t, err)
	require.Len(t, warnings, 1)
	require.Contains(t, warnings[0], "innodb_flush_log_at_trx_commit is 2")
	_, err = d.sql(t).ExecContext(t.Context(), "SET GLOBAL innodb_flush_log_at_trx_commit=1")
	require.NoError(t, err)
}
