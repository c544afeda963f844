package store

// Dialect is the SQL an engine speaks.
type Dialect uint8

const (
	MySQL  Dialect = iota // MySQL 8, MariaDB 10.6 and later, and engines that speak their protocol
	SQLite                // one file, one writer
)

func (d Dialect) String() string {
	if d == SQLite {
		return "sqlite"
	}
	return "mysql"
}

// Everything that differs between the engines is in this file: statements, the words around a transaction, error numbers.

// SQLite takes its one write lock at BEGIN IMMEDIATE, so its statements lock nothing. On MySQL the order of locks is the
// same in every transaction: node_fence, user by ascending uid, friend_apply, friend, user_block, chat_thread by ascending
// id, private_chat, the tables of groups, chat_message, hidden_message. What changes the relation of two users locks both
// rows of user, so that such changes come one after the other even where there is no row yet that says how the two stand.
var (
	qFenceCheck = differ(
		"SELECT boot FROM node_fence WHERE node=? LOCK IN SHARE MODE",
		"SELECT boot FROM node_fence WHERE node=?")

	// The fence and the threads of a batch in one round trip: the node's row comes with id 0, which no thread has.
	// FORCE INDEX: with a long list over a small table the optimizer would scan, and lock, all of it. The last column says
	// whether the thread is to be touched.
	qAppendLock = list(
		`(SELECT 0,boot=?,0,0 FROM node_fence WHERE node=? LOCK IN SHARE MODE) UNION ALL
		 (SELECT id,last_seq,member_ver,active<UNIX_TIMESTAMP() DIV 600 FROM chat_thread FORCE INDEX (PRIMARY) WHERE id IN (@) FOR UPDATE)`,
		`SELECT 0,boot=?,0,0 FROM node_fence WHERE node=? UNION ALL
		 SELECT id,last_seq,member_ver,active<unixepoch()/600 FROM chat_thread WHERE id IN (@)`,
		"?", ",")

	// See alone. It returns the text's number, or 0 if it stored nothing.
	qAlone = same("CALL " + procedureName + "(?,?,?,?,?,?,?,?,?)")

	qClock = differ("SELECT UNIX_TIMESTAMP()", "SELECT unixepoch()")

	qThreadsQuiet = list(
		"SELECT id FROM chat_thread FORCE INDEX (PRIMARY) WHERE id IN (@) AND active<UNIX_TIMESTAMP() DIV 600 ORDER BY id",
		"SELECT id FROM chat_thread WHERE id IN (@) AND active<unixepoch()/600 ORDER BY id",
		"?", ",")

	// FORCE INDEX: see qAppendLock.
	qThreadsTouch = list(
		"UPDATE chat_thread FORCE INDEX (PRIMARY) SET active=UNIX_TIMESTAMP() DIV 600 WHERE id IN (@)",
		"UPDATE chat_thread SET active=unixepoch()/600 WHERE id IN (@)",
		"?", ",")
	qPairsTouch = list(
		"UPDATE private_chat FORCE INDEX (PRIMARY) SET active=UNIX_TIMESTAMP() DIV 600 WHERE thread_id IN (@)",
		"UPDATE private_chat SET active=unixepoch()/600 WHERE thread_id IN (@)",
		"?", ",")

	// FORCE INDEX: the optimizer may prefer the index on active, read all threads of the user by it, and sort them.
	qThreads = differ(threadsOf("", "", "FORCE INDEX (private_chat_user%d)"), threadsOf("", "", ""))

	// FORCE INDEX: the optimizer prefers an index that holds all threads of the user.
	qThreadsSince = differ(
		threadsOf("AND p.active>=?", "AND t.active>=?", "FORCE INDEX (private_chat_active%d)"),
		threadsOf("AND p.active>=?", "AND t.active>=?", ""))

	qLastBefore = union("SELECT ? AS place,seq FROM chat_message WHERE thread_id=? AND seq>? AND seq<=? AND created_ms<? ORDER BY seq DESC LIMIT 1")

	qFenceTake = differ(
		"INSERT INTO node_fence(node,boot) VALUES(?,?) ON DUPLICATE KEY UPDATE boot=VALUES(boot)",
		"INSERT INTO node_fence(node,boot) VALUES(?,?) ON CONFLICT(node) DO UPDATE SET boot=excluded.boot")

	qThreadLock = differ(
		"SELECT last_seq FROM chat_thread WHERE id=? FOR UPDATE",
		"SELECT last_seq FROM chat_thread WHERE id=?")

	// FORCE INDEX: see qAppendLock.
	qThreadsLock = list(
		"SELECT id,last_seq,member_ver FROM chat_thread FORCE INDEX (PRIMARY) WHERE id IN (@) ORDER BY id FOR UPDATE",
		"SELECT id,last_seq,member_ver FROM chat_thread WHERE id IN (@)",
		"?", ",")

	// One statement for all threads of a batch. The rows exist and are locked, so nothing is ever inserted.
	qThreadsBump = list(
		"INSERT INTO chat_thread(id,last_seq) VALUES @ ON DUPLICATE KEY UPDATE last_seq=VALUES(last_seq)",
		"INSERT INTO chat_thread(id,last_seq) VALUES @ ON CONFLICT(id) DO UPDATE SET last_seq=excluded.last_seq",
		"(?,?)", ",")

	// FORCE INDEX for the same reason.
	qResends = list(
		`SELECT sender_id,unique_id,thread_id,seq,created_ms,status<>0 OR edited_seq<>0 FROM chat_message
		 FORCE INDEX (chat_message_unique_id) WHERE (sender_id,unique_id) IN (@)`,
		`SELECT sender_id,unique_id,thread_id,seq,created_ms,status<>0 OR edited_seq<>0 FROM chat_message
		 WHERE (sender_id,unique_id) IN (@)`,
		"(?,?)", ",")

	// FORCE INDEX: see qAppendLock.
	qUsersLock = list(
		"SELECT uid FROM user FORCE INDEX (PRIMARY) WHERE uid IN (@) AND deleted_ms=0 ORDER BY uid FOR UPDATE",
		"SELECT uid FROM user WHERE uid IN (@) AND deleted_ms=0",
		"?", ",")

	qUserLock = differ(
		"SELECT name,pwd,deleted_ms FROM user WHERE uid=? FOR UPDATE",
		"SELECT name,pwd,deleted_ms FROM user WHERE uid=?")

	// The keys are in capitals, which Key never makes: no user can take them, and no name or address finds them.
	qUserErase = differ(
		"UPDATE user SET name=?,name_key=CONCAT('DELETED:',uid),email='',email_key=CONCAT('DELETED:',uid),"+
			"pwd='',nick=?,`desc`='',icon='',sex=0,deleted_ms=? WHERE uid=?",
		"UPDATE user SET name=?,name_key='DELETED:'||uid,email='',email_key='DELETED:'||uid,"+
			"pwd='',nick=?,`desc`='',icon='',sex=0,deleted_ms=? WHERE uid=?")

	// Raises the version of threads that the transaction has locked.
	qMemberVersUp = list(
		"UPDATE chat_thread FORCE INDEX (PRIMARY) SET member_ver=member_ver+1 WHERE id IN (@)",
		"UPDATE chat_thread SET member_ver=member_ver+1 WHERE id IN (@)",
		"?", ",")

	qMembersPut = list(
		`INSERT INTO group_chat_member(thread_id,user_id,role,joined_ms,muted_until_ms,from_seq) VALUES @
		 ON DUPLICATE KEY UPDATE role=VALUES(role),joined_ms=VALUES(joined_ms),muted_until_ms=VALUES(muted_until_ms),
			from_seq=VALUES(from_seq),left_seq=0,left_name='',removed=0`,
		`INSERT INTO group_chat_member(thread_id,user_id,role,joined_ms,muted_until_ms,from_seq) VALUES @
		 ON CONFLICT(thread_id,user_id) DO UPDATE SET role=excluded.role,joined_ms=excluded.joined_ms,
			muted_until_ms=excluded.muted_until_ms,from_seq=excluded.from_seq,left_seq=0,left_name='',removed=0`,
		"(?,?,?,?,?,?)", ",")

	// The order of the tables and FORCE INDEX: else the optimizer may read all members of the groups.
	qGroupRights = list(
		`SELECT STRAIGHT_JOIN m.thread_id,g.muted,t.member_ver,m.user_id,m.role,m.joined_ms,m.muted_until_ms,m.from_seq,m.left_seq
		 FROM group_chat_member m FORCE INDEX (PRIMARY) JOIN group_chat g ON g.thread_id=m.thread_id
		 JOIN chat_thread t ON t.id=m.thread_id WHERE (m.thread_id,m.user_id) IN (@)`,
		`SELECT m.thread_id,g.muted,t.member_ver,m.user_id,m.role,m.joined_ms,m.muted_until_ms,m.from_seq,m.left_seq
		 FROM group_chat_member m JOIN group_chat g ON g.thread_id=m.thread_id
		 JOIN chat_thread t ON t.id=m.thread_id WHERE (m.thread_id,m.user_id) IN (@)`,
		"(?,?)", ",")

	// The order of the tables and FORCE INDEX: see qGroupRights.
	qMarkGroups = list(
		`SELECT STRAIGHT_JOIN m.thread_id,m.user_id,t.last_seq,m.from_seq,m.left_seq,g.members,COALESCE(r.read_seq,0),COALESCE(r.recv_seq,0)
		 FROM group_chat_member m FORCE INDEX (PRIMARY) JOIN group_chat g ON g.thread_id=m.thread_id
		 JOIN chat_thread t ON t.id=m.thread_id LEFT JOIN read_mark r ON r.thread_id=m.thread_id AND r.user_id=m.user_id
		 WHERE (m.thread_id,m.user_id) IN (@)`,
		`SELECT m.thread_id,m.user_id,t.last_seq,m.from_seq,m.left_seq,g.members,COALESCE(r.read_seq,0),COALESCE(r.recv_seq,0)
		 FROM group_chat_member m JOIN group_chat g ON g.thread_id=m.thread_id
		 JOIN chat_thread t ON t.id=m.thread_id LEFT JOIN read_mark r ON r.thread_id=m.thread_id AND r.user_id=m.user_id
		 WHERE (m.thread_id,m.user_id) IN (@)`,
		"(?,?)", ",")

	// Marks only grow, so that any order of writers gives the same.
	qMarksPut = list(
		`INSERT INTO read_mark(thread_id,user_id,read_seq,recv_seq) VALUES @ ON DUPLICATE KEY UPDATE
			read_seq=GREATEST(read_seq,VALUES(read_seq)),recv_seq=GREATEST(recv_seq,VALUES(recv_seq))`,
		`INSERT INTO read_mark(thread_id,user_id,read_seq,recv_seq) VALUES @ ON CONFLICT(thread_id,user_id) DO UPDATE SET
			read_seq=MAX(read_seq,excluded.read_seq),recv_seq=MAX(recv_seq,excluded.recv_seq)`,
		"(?,?,?,?)", ",")

	qMarksStored = list(
		"SELECT thread_id,user_id,read_seq,recv_seq FROM read_mark FORCE INDEX (PRIMARY) WHERE (thread_id,user_id) IN (@)",
		"SELECT thread_id,user_id,read_seq,recv_seq FROM read_mark WHERE (thread_id,user_id) IN (@)",
		"(?,?)", ",")

	// With each whether its user is a friend of another one.
	qMarksShown = list(
		"SELECT r.thread_id,r.user_id,r.read_seq,r.recv_seq,"+marksFriend+" FROM read_mark r FORCE INDEX (PRIMARY) WHERE (r.thread_id,r.user_id) IN (@)",
		"SELECT r.thread_id,r.user_id,r.read_seq,r.recv_seq,"+marksFriend+" FROM read_mark r WHERE (r.thread_id,r.user_id) IN (@)",
		"(?,?)", ",")

	qBlockPut = differ(
		"INSERT INTO user_block(uid,blocked_uid,created_ms) VALUES(?,?,?) ON DUPLICATE KEY UPDATE uid=VALUES(uid)",
		"INSERT INTO user_block(uid,blocked_uid,created_ms) VALUES(?,?,?) ON CONFLICT(uid,blocked_uid) DO NOTHING")

	qApplicationLock = differ(
		"SELECT status,descs,back_name FROM friend_apply WHERE from_uid=? AND to_uid=? FOR UPDATE",
		"SELECT status,descs,back_name FROM friend_apply WHERE from_uid=? AND to_uid=?")

	qApplicationPut = differ(
		`INSERT INTO friend_apply(from_uid,to_uid,status,descs,back_name,applied_ms) VALUES(?,?,0,?,?,?)
		 ON DUPLICATE KEY UPDATE status=0,descs=VALUES(descs),back_name=VALUES(back_name),applied_ms=VALUES(applied_ms)`,
		`INSERT INTO friend_apply(from_uid,to_uid,status,descs,back_name,applied_ms) VALUES(?,?,0,?,?,?)
		 ON CONFLICT(from_uid,to_uid) DO UPDATE SET
			status=0,descs=excluded.descs,back_name=excluded.back_name,applied_ms=excluded.applied_ms`)

	// INSERT IGNORE would also swallow values that do not fit.
	qFriendPut = differ(
		"INSERT INTO friend(self_id,friend_id,back) VALUES(?,?,?) ON DUPLICATE KEY UPDATE self_id=VALUES(self_id)",
		"INSERT INTO friend(self_id,friend_id,back) VALUES(?,?,?) ON CONFLICT(self_id,friend_id) DO NOTHING")

	qHiddenPut = list(
		"INSERT INTO hidden_message(user_id,thread_id,seq) VALUES @ ON DUPLICATE KEY UPDATE seq=VALUES(seq)",
		"INSERT INTO hidden_message(user_id,thread_id,seq) VALUES @ ON CONFLICT DO NOTHING",
		"(?,?,?)", ",")

	qPasswordLock = differ(
		"SELECT uid FROM user WHERE name_key=? AND email_key=? FOR UPDATE",
		"SELECT uid FROM user WHERE name_key=? AND email_key=?")

	qUsersPut = list(
		"INSERT INTO user(uid,name,name_key,email,email_key,pwd,nick,icon,sex,created_ms) VALUES @ ON DUPLICATE KEY UPDATE uid=uid",
		"INSERT INTO user(uid,name,name_key,email,email_key,pwd,nick,icon,sex,created_ms) VALUES @ ON CONFLICT DO NOTHING",
		"(?,?,?,?,?,?,?,?,?,?)", ",")

	qFriendsPut = list(
		"INSERT INTO friend(self_id,friend_id,back) VALUES @ ON DUPLICATE KEY UPDATE self_id=VALUES(self_id)",
		"INSERT INTO friend(self_id,friend_id,back) VALUES @ ON CONFLICT DO NOTHING",
		"(?,?,'')", ",")
)

// procedureName has a number because nodes of two versions may share a database: a changed procedure gets the next.
const procedureName = "parley_append_1"

// The first UPDATE is that of a thread that was active in this unit of time, which needs no other row touched. The node's row comes
// first because of the order of locks.
const qAloneCreate = "CREATE PROCEDURE " + procedureName + `(
	node_ VARBINARY(255), boot_ VARBINARY(64), thread_ BIGINT, ver_ INT, sender_ INT,
	unique_ VARBINARY(64), content_ TEXT CHARACTER SET utf8mb4, type_ VARBINARY(32), ms_ BIGINT)
	MODIFIES SQL DATA SQL SECURITY INVOKER
BEGIN
	DECLARE held VARBINARY(64);
	DECLARE number INT DEFAULT 0;
	SELECT boot INTO held FROM node_fence WHERE node=node_ LOCK IN SHARE MODE;
	IF held=boot_ THEN
		UPDATE chat_thread SET last_seq=LAST_INSERT_ID(last_seq+1)
			WHERE id=thread_ AND member_ver=ver_ AND last_seq<2147483647 AND active>=UNIX_TIMESTAMP() DIV 600;
		IF ROW_COUNT()=1 THEN
			SET number=LAST_INSERT_ID();
		ELSE
			UPDATE chat_thread SET last_seq=LAST_INSERT_ID(last_seq+1),active=UNIX_TIMESTAMP() DIV 600
				WHERE id=thread_ AND member_ver=ver_ AND last_seq<2147483647;
			IF ROW_COUNT()=1 THEN
				SET number=LAST_INSERT_ID();
				UPDATE private_chat SET active=UNIX_TIMESTAMP() DIV 600 WHERE thread_id=thread_;
			END IF;
		END IF;
	END IF;
	IF number>0 THEN
		INSERT INTO chat_message(thread_id,seq,sender_id,unique_id,content,status,created_ms,type)
			VALUES(thread_,number,sender_,unique_,content_,0,ms_,type_);
		COMMIT;
	END IF;
	SELECT number;
END`

const marksFriend = `EXISTS (SELECT 1 FROM friend f WHERE f.self_id=? AND f.friend_id=r.user_id)
	AND EXISTS (SELECT 1 FROM friend f WHERE f.self_id=r.user_id AND f.friend_id=?)`

// dialect holds the differences between engines beside the statements.
type dialect struct {
	Dialect
	setup                   string // run once on a writer's connection
	begin, commit, rollback string
	classify                func(code int) class
}

func dialectOf(d Dialect) *dialect {
	if d == SQLite {
		return &dialect{SQLite, "", "BEGIN IMMEDIATE", "COMMIT", "ROLLBACK", classifySQLite}
	}
	// Without autocommit the first statement begins the transaction, which saves a round trip.
	return &dialect{MySQL, "SET SESSION autocommit=0", "", "COMMIT", "ROLLBACK", classifyMySQL}
}

// classifyMySQL sorts the error numbers of MySQL, MariaDB and TiDB.
func classifyMySQL(code int) class {
	switch code {
	case 1062, 1586: // duplicate entry, also with the key's name
		return classDuplicate
	case 1213, 1205, // deadlock, lock wait time-out
		1020, 1412, // the record or the table definition changed since it was read
		1637,             // too many concurrent transactions
		8002, 8022, 9007: // TiDB: write conflicts
		return classRetry
	case 1053, 1077, 1079, // the server shuts down
		1152, 1158, 1159, 1160, 1161, 1184, // the connection was aborted, or its packets were lost
		1243, 1615, // the server does not know the prepared statement, or wants it prepared again
		1317, 3024, 1969, // the statement was interrupted or took too long
		1927, 1928, 4031, // the connection was killed, or closed for inactivity
		2006, 2013, 2055: // what clients call a lost server
		return classConn
	case 1290, 1792, 1836, 1036, 3100, // read-only
		1044, 1045, 1142, 1143, 1227, 1370, 1129, 1130, // access denied
		1047: // a Galera node that is not in its cluster
		return classRefused
	case 1021, 1026, 1030, 1037, 1041, 1114, // disk or table full, out of memory, storage engine errors
		1040, 1203, 1206, 1226, 1461, // too many connections, locks, statements, or of something of this user's
		1046, 1049, 1051, 1054, 1064, 1109, 1146, 1932, // the schema is not ours
		1665,             // the binary log is kept by statement
		1180, 1181, 1196, // COMMIT or ROLLBACK failed
		1016, 1033, 1034, 1194, 1195, 1712: // corruption
		return classSystem
	}
	return classRow
}

// noProcedure reports whether a call failed because the procedure is not there, or not for this user.
func noProcedure(code int) bool {
	switch code {
	case 1305, 1318, 1370: // no such procedure, other parameters, no right to call it
		return true
	}
	return false
}

// denied reports whether the user lacks a right to create or call a procedure.
func denied(code int) bool {
	switch code {
	case 1044, 1142, 1227, 1370: // on the schema, on what the procedure uses, of the server, on the procedure
		return true
	}
	return false
}

// procedureExists is the number of MySQL's error for a name that is taken.
const procedureExists = 1304

// classifySQLite sorts SQLite's extended result codes.
func classifySQLite(code int) class {
	switch code {
	case 1555, 2067, 2579: // PRIMARY KEY, UNIQUE, rowid
		return classDuplicate
	}
	switch code & 0xff {
	case 5, 6, 17: // BUSY, LOCKED, SCHEMA
		return classRetry
	case 18, 19, 20, 25: // TOOBIG, CONSTRAINT, MISMATCH, RANGE
		return classRow
	}
	return classSystem
}
