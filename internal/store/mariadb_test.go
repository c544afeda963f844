package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"parley/internal/store"
	"parley/lab/launchtest"
)

// TestMariaDBFaults is about what only a server can do: restart, stop answering, hold locks for somebody who is gone.
func TestMariaDBFaults(t *testing.T) {
	t.Parallel()
	server := launchtest.MariaDB(t)
	for name, body := range map[string]func(*testing.T, *database){
		"sessions are set up":             testSessions,
		"resends are found by their key":  testResendsUseKey,
		"another program's schema":        testForeignSchema,
		"a restart breaks no later call":  testRestart,
		"a frozen server holds nobody":    testFrozen,
		"a paused node loses its locks":   testPausedNode,
		"the fence waits for transaction": testFenceWaits,
		"a batch locks its threads":       testBatchLocks,
	} {
		t.Run(name, func(t *testing.T) { body(t, newMariaDB(t, server)) })
	}
}

func testSessions(t *testing.T, d *database) {
	s := d.migrated(t)
	user(t, s, "alice")
	var id int64
	// The store's sessions are those of its schema that are not ours.
	db := d.sql(t)
	rows, err := db.QueryContext(t.Context(), "SELECT id FROM information_schema.processlist WHERE db=DATABASE() AND id<>CONNECTION_ID()")
	require.NoError(t, err)
	n := 0
	for rows.Next() {
		require.NoError(t, rows.Scan(&id))
		n++
	}
	require.NoError(t, rows.Err())
	require.Positive(t, n)
	// Its isolation shows in what it locks; its mode in what it refuses; both are tested elsewhere. The time-outs:
	for name, want := range map[string]string{"innodb_lock_wait_timeout": "2", "idle_transaction_timeout": "2", "tx_isolation": "READ-COMMITTED"} {
		require.Equal(t, want, sessionVariable(t, d, name), name)
	}
	require.Contains(t, sessionVariable(t, d, "sql_mode"), "STRICT_TRANS_TABLES")
}

// sessionVariable reads a session variable as the store's sessions have it: a trigger runs in the session that fires it.
func sessionVariable(t *testing.T, d *database, name string) string {
	t.Helper()
	db := d.sql(t)
	for _, q := range []string{
		"CREATE TABLE IF NOT EXISTS seen (value TEXT)", "DELETE FROM seen", "DROP TRIGGER IF EXISTS spy",
		"CREATE TRIGGER spy AFTER INSERT ON node_fence FOR EACH ROW INSERT INTO seen VALUES (@@SESSION." + name + ")",
	} {
		_, err := db.ExecContext(t.Context(), q)
		require.NoError(t, err)
	}
	s := d.open(t)
	require.NoError(t, s.Fence.Take(t.Context(), "spy on "+name, "boot"))
	return scan[string](t, db, "SELECT value FROM seen")
}

func testResendsUseKey(t *testing.T, d *database) {
	s := d.migrated(t)
	name, boot := node(t, s, "n1")
	id, a, _ := thread(t, s, "x")
	msgs := make([]store.NewMessage, 2000)
	for i := range msgs {
		msgs[i] = store.NewMessage{ThreadID: id, Sender: a, UniqueID: fmt.Sprint(i), Content: "x"}
	}
	require.NoError(t, s.Messages.Append(t.Context(), name, boot, msgs, make([]store.Appended, len(msgs))))
	db := d.sql(t)
	read := func() int { // rows that were walked over, in any way
		return scan[int](t, db, `SELECT SUM(variable_value) FROM information_schema.global_status
			WHERE variable_name IN ('HANDLER_READ_NEXT','HANDLER_READ_RND_NEXT')`)
	}
	before := read()
	out := make([]store.Appended, 256)
	require.NoError(t, s.Messages.Append(t.Context(), name, boot, msgs[:256], out))
	require.True(t, out[255].Resent)
	// A scan would walk over 2000, and the question itself over some hundreds.
	require.Less(t, read()-before, 1500)
}

func testForeignSchema(t *testing.T, d *database) {
	db := d.sql(t)
	_, err := db.ExecContext(t.Context(), "CREATE TABLE user (id INT AUTO_INCREMENT PRIMARY KEY, uid INT, name VARCHAR(255), pwd VARCHAR(255))")
	require.NoError(t, err)
	require.ErrorIs(t, d.open(t).Migrate(t.Context()), store.ErrForeignSchema)
	require.Equal(t, 1, scan[int](t, db, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema=DATABASE()"))
}

func testRestart(t *testing.T, d *database) {
	s := d.migrated(t)
	name, boot := node(t, s, "n1")
	id, a, b := thread(t, s, "x")
	// Several connections with statements on them.
	done := make(chan error, 4)
	for i := range cap(done) {
		go func() { _, err := s.Threads.EnsureOfPair(t.Context(), a, int32(5000+i)); done <- err }()
	}
	for range cap(done) {
		require.NoError(t, <-done)
	}
	_, err := s.Friends.Of(t.Context(), []int32{a})
	require.NoError(t, err)
	require.NoError(t, d.server.Restart(t.Context()))

	out := make([]store.Appended, 1)
	require.NoError(t, s.Messages.Append(t.Context(), name, boot, []store.NewMessage{{ThreadID: id, Sender: a, UniqueID: "1"}}, out))
	require.NoError(t, out[0].Err)
	for range 3 {
		_, err = s.Friends.Of(t.Context(), []int32{a})
		require.NoError(t, err)
		_, err = s.Threads.OfPair(t.Context(), a, b)
		require.NoError(t, err)
	}

	// While it is down calls fail soon, and those after it is up succeed.
	require.NoError(t, d.server.Kill())
	start := time.Now()
	require.Error(t, s.Messages.Append(t.Context(), name, boot, []store.NewMessage{{ThreadID: id, Sender: a, UniqueID: "2"}}, out))
	require.Error(t, out[0].Err)
	_, err = s.Friends.Of(t.Context(), []int32{a})
	require.Error(t, err)
	require.Less(t, time.Since(start), store.DefaultTimeout)
	require.NoError(t, d.server.Start(t.Context()))
	require.NoError(t, s.Messages.Append(t.Context(), name, boot, []store.NewMessage{{ThreadID: id, Sender: a, UniqueID: "2"}}, out))
	require.NoError(t, s.Ping(t.Context()))
	require.Len(t, history(t, s, id), 2)
}

func testFrozen(t *testing.T, d *database) {
	s := d.migrated(t)
	name, boot := node(t, s, "n1")
	id, a, _ := thread(t, s, "x")
	msgs := []store.NewMessage{{ThreadID: id, Sender: a, UniqueID: "1"}}
	out := make([]store.Appended, 1)
	_, err := s.Users.Profile(t.Context(), a)
	require.NoError(t, err)

	require.NoError(t, d.server.Pause())
	calls := map[string]func(context.Context) error{
		"append":  func(ctx context.Context) error { return s.Messages.Append(ctx, name, boot, msgs, out) },
		"profile": func(ctx context.Context) error { _, err := s.Users.Profile(ctx, a); return err },
		"ping":    s.Ping,
		"migrate": s.Migrate,
	}
	const bound = 200 * time.Millisecond
	for what, call := range calls {
		for _, want := range []error{context.DeadlineExceeded, context.Canceled} {
			ctx, cancel := context.WithTimeout(t.Context(), bound)
			if want == context.Canceled {
				ctx, cancel = context.WithCancel(t.Context())
				time.AfterFunc(bound, cancel)
			}
			start := time.Now()
			err := call(ctx)
			cancel()
			require.ErrorIs(t, err, want, what)
			require.Less(t, time.Since(start), 3*(bound+time.Second), what) // a second for the rollback
		}
	}
	require.NoError(t, d.server.Resume())
	require.NoError(t, s.Messages.Append(t.Context(), name, boot, msgs, out))
	require.Len(t, history(t, s, id), 1)
}

// A transaction that reads its fence and then stands still is ended by the server; the fence is taken meanwhile, and the
// rest of the transaction stores nothing.
func testPausedNode(t *testing.T, d *database) {
	s := d.migrated(t)
	plain := d.open(t)
	id, a, _ := thread(t, s, "x")
	name, boot := node(t, s, "n1")
	paused, resume := make(chan struct{}), make(chan struct{})
	calls := 0
	f := &faults{commit: func(ctx context.Context, commit func(context.Context) error) error {
		if calls++; calls == 1 {
			close(paused)
			<-resume
		}
		return commit(ctx)
	}}
	// The sessions of withFaults are the driver's own, so the time-out is set for all of the server.
	db := d.sql(t)
	_, err := db.ExecContext(t.Context(), "SET GLOBAL idle_transaction_timeout=2")
	require.NoError(t, err)
	defer func() {
		_, err := db.ExecContext(context.WithoutCancel(t.Context()), "SET GLOBAL idle_transaction_timeout=0")
		require.NoError(t, err)
	}()
	node := d.withFaults(t, f)
	out := make([]store.Appended, 1)
	result := make(chan error, 1)
	go func() {
		result <- node.Messages.Append(t.Context(), name, boot, []store.NewMessage{{ThreadID: id, Sender: a, UniqueID: "late"}}, out)
	}()
	<-paused
	require.NoError(t, plain.Fence.Forbid(t.Context(), name, boot))
	require.Empty(t, history(t, plain, id))
	close(resume)
	require.ErrorIs(t, <-result, store.ErrFenced)
	require.ErrorIs(t, out[0].Err, store.ErrFenced)
	require.Empty(t, history(t, plain, id))
}

// Fencing returns only after a transaction that has read the row: what it stores can be seen then.
func testFenceWaits(t *testing.T, d *database) {
	s := d.migrated(t)
	id, a, _ := thread(t, s, "x")
	name, boot := node(t, s, "n1")
	inCommit, goOn := make(chan struct{}), make(chan struct{})
	f := &faults{commit: func(ctx context.Context, commit func(context.Context) error) error {
		close(inCommit)
		<-goOn
		return commit(ctx)
	}}
	node := d.withFaults(t, f)
	appended := make(chan error, 1)
	go func() {
		out := make([]store.Appended, 1)
		appended <- node.Messages.Append(t.Context(), name, boot, []store.NewMessage{{ThreadID: id, Sender: a, UniqueID: "1"}}, out)
	}()
	<-inCommit
	fenced := make(chan error, 1)
	go func() { fenced <- s.Fence.Forbid(t.Context(), name, boot) }()
	db := d.sql(t)
	require.Eventually(t, func() bool {
		return scan[int](t, db, "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state='LOCK WAIT'") > 0
	}, time.Minute, 200*time.Millisecond, "fencing waits for the row") // the server answers from a cache that it renews only after 100 ms of quiet
	select {
	case err := <-fenced:
		t.Fatalf("fenced while a transaction was open: %v", err)
	default:
	}
	close(goOn)
	require.NoError(t, <-appended)
	require.NoError(t, <-fenced)
	require.Len(t, history(t, s, id), 1)
}

// A batch holds its threads from the beginning, also those in which it stores nothing.
func testBatchLocks(t *testing.T, d *database) {
	s := d.migrated(t)
	id, a, _ := thread(t, s, "x")
	name, boot := node(t, s, "n1")
	msgs, out := []store.NewMessage{{ThreadID: id, Sender: a, UniqueID: "1"}}, make([]store.Appended, 1)
	require.NoError(t, s.Messages.Append(t.Context(), name, boot, msgs, out))

	inCommit, goOn := make(chan struct{}), make(chan struct{})
	node := d.withFaults(t, &faults{commit: func(ctx context.Context, commit func(context.Context) error) error {
		close(inCommit)
		<-goOn
		return commit(ctx)
	}})
	resent := make(chan error, 1)
	go func() { resent <- node.Messages.Append(t.Context(), name, boot, msgs, out) }()
	<-inCommit
	_, err := d.sql(t).ExecContext(t.Context(), "SELECT last_seq FROM chat_thread WHERE id=? FOR UPDATE NOWAIT", id)
	require.ErrorContains(t, err, "1205", "its row is locked")
	close(goOn)
	require.NoError(t, <-resent)
	require.True(t, out[0].Resent)
}

// TestMariaDBPlans checks that reads use the keys made for them.
func TestMariaDBPlans(t *testing.T) {
	t.Parallel()
	d := newMariaDB(t, launchtest.MariaDB(t))
	s := d.migrated(t)
	db := d.sql(t)
	require.NoError(t, fill(t, s, db))
	for name, q := range map[string]string{
		"threads to lock": "(SELECT 0,boot='b' FROM node_fence WHERE node='n1' LOCK IN SHARE MODE) UNION ALL (SELECT id,last_seq FROM chat_thread FORCE INDEX (PRIMARY) WHERE id IN (1,2,3,4,5,6,7,8) FOR UPDATE)",
		"history":         "SELECT seq,content FROM chat_message WHERE thread_id=3 AND seq>5 ORDER BY seq LIMIT 10",
		"applications":    "SELECT from_uid FROM friend_apply WHERE to_uid=1001 AND status=0 ORDER BY applied_ms DESC, from_uid DESC LIMIT 10",
		"members to look up": `SELECT STRAIGHT_JOIN m.user_id FROM group_chat_member m FORCE INDEX (PRIMARY) JOIN group_chat g ON g.thread_id=m.thread_id
			WHERE (m.thread_id,m.user_id) IN ((900,1001),(900,1002),(900,1003),(901,1001))`,
		"groups of users":  "SELECT m.thread_id FROM group_chat_member m WHERE m.user_id IN (1001,1002) AND m.left_seq=0",
		"page of members":  "SELECT m.user_id FROM group_chat_member m JOIN user u ON u.uid=m.user_id WHERE m.thread_id=900 AND m.user_id>1050 AND m.left_seq=0 ORDER BY m.user_id LIMIT 10",
		"links of a group": "SELECT COUNT(*) FROM group_link WHERE thread_id=900",
		"unread texts":     "SELECT seq,sender_id FROM chat_message WHERE thread_id=3 AND seq>1005 AND seq<=1150 AND kind=0 ORDER BY seq DESC LIMIT 100",
		"marks of a list": `SELECT r.read_seq,EXISTS (SELECT 1 FROM friend f WHERE f.self_id=1001 AND f.friend_id=r.user_id)
			FROM read_mark r FORCE INDEX (PRIMARY) WHERE (r.thread_id,r.user_id) IN ((3,1001),(3,1002),(900,1001),(901,1001))`,
		"marks of pairs": `SELECT t.last_seq,r1.read_seq,r2.read_seq FROM private_chat p JOIN chat_thread t ON t.id=p.thread_id
			LEFT JOIN read_mark r1 ON r1.thread_id=p.thread_id AND r1.user_id=p.user1_id
			LEFT JOIN read_mark r2 ON r2.thread_id=p.thread_id AND r2.user_id=p.user2_id WHERE p.thread_id IN (1,2,3,4)`,
		"marks of members": `SELECT STRAIGHT_JOIN t.last_seq,r.read_seq FROM group_chat_member m FORCE INDEX (PRIMARY) JOIN group_chat g ON g.thread_id=m.thread_id
			JOIN chat_thread t ON t.id=m.thread_id LEFT JOIN read_mark r ON r.thread_id=m.thread_id AND r.user_id=m.user_id
			WHERE (m.thread_id,m.user_id) IN ((900,1001),(900,1002),(900,1003),(901,1001))`,
		"page of marks": `SELECT r.user_id FROM read_mark r JOIN group_chat_member m ON m.thread_id=r.thread_id AND m.user_id=r.user_id AND m.left_seq=0
			WHERE r.thread_id=900 AND r.user_id>1050 ORDER BY r.user_id LIMIT 10`,
		"marks of a user": "DELETE FROM read_mark WHERE user_id=1001",
		"threads of user": "SELECT thread_id FROM private_chat FORCE INDEX (private_chat_user2) WHERE user2_id=1001 AND thread_id>0 ORDER BY thread_id LIMIT 10",
	} {
		plan := explain(t, db, q)
		require.NotContains(t, plan, "ALL", name)
		require.NotContains(t, plan, "filesort", name)
	}
}

// fill makes the tables large enough for the optimizer to care.
func fill(t *testing.T, s *store.Store, db *sql.DB) error {
	users := make([]store.NewUser, 200)
	var pairs [][2]int32
	for i := range users {
		users[i] = store.NewUser{Name: fmt.Sprint("u", i), Email: fmt.Sprint("u", i), PasswordHash: "h"}
		if i > 0 {
			pairs = append(pairs, [2]int32{1001, 1001 + int32(i)})
		}
	}
	if err := s.Seed.Users(t.Context(), 1001, users); err != nil {
		return err
	}
	if _, err := s.Seed.Friends(t.Context(), pairs); err != nil {
		return err
	}
	for _, q := range []string{
		"INSERT INTO friend_apply(from_uid,to_uid,descs,back_name,applied_ms) SELECT uid,1001,'','',uid FROM user WHERE uid>1001",
		"INSERT INTO chat_message(thread_id,seq,sender_id,unique_id,content,created_ms) SELECT 3,uid,uid,'x','x',0 FROM user",
		"INSERT INTO group_chat(thread_id,name) SELECT uid,'g' FROM user",
		"INSERT INTO group_chat_member(thread_id,user_id,from_seq) SELECT 900+a.uid%2,b.uid,1 FROM user a JOIN user b WHERE a.uid IN (1001,1002)",
		"INSERT INTO group_chat_member(thread_id,user_id,from_seq) SELECT 2000+a.uid,b.uid,1 FROM user a JOIN user b WHERE a.uid<1050",
		"INSERT INTO group_link(code,thread_id,created_by,created_ms,expires_ms,uses_left) SELECT uid,uid,1,1,1,1 FROM user",
		"INSERT INTO read_mark(thread_id,user_id,read_seq,recv_seq) SELECT thread_id,user_id,1,1 FROM group_chat_member",
		"ANALYZE TABLE read_mark, friend_apply, chat_message, private_chat, chat_thread, group_chat, group_chat_member, group_link",
	} {
		if _, err := db.ExecContext(t.Context(), q); err != nil {
			return err
		}
	}
	return nil
}

// explain returns a plan's types and extras.
func explain(t *testing.T, db *sql.DB, q string) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "EXPLAIN "+q)
	require.NoError(t, err)
	defer rows.Close()
	columns, err := rows.Columns()
	require.NoError(t, err)
	var plan strings.Builder
	for rows.Next() {
		values, dest := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range values {
			dest[i] = &values[i]
		}
		require.NoError(t, rows.Scan(dest...))
		for i, c := range columns {
			if c == "type" || c == "Extra" {
				plan.WriteString(values[i].String)
				plan.WriteString("; ")
			}
		}
	}
	require.NoError(t, rows.Err())
	return plan.String()
}
