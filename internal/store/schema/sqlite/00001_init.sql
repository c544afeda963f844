-- The same tables as schema/mysql, for one file. STRICT tables check the types that MySQL's columns check by themselves;
-- the CHECKs stand in for its lengths. Tables read in key order are WITHOUT ROWID: one tree less to write.

-- +goose Up
CREATE TABLE user (
    uid        INTEGER PRIMARY KEY AUTOINCREMENT CHECK (uid BETWEEN 1 AND 2147483647),
    name       TEXT    NOT NULL,
    name_key   TEXT    NOT NULL UNIQUE,
    email      TEXT    NOT NULL,
    email_key  TEXT    NOT NULL UNIQUE,
    pwd        TEXT    NOT NULL,
    nick       TEXT    NOT NULL DEFAULT '',
    `desc`     TEXT    NOT NULL DEFAULT '',
    icon       TEXT    NOT NULL DEFAULT '',
    sex        INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO sqlite_sequence (name, seq) VALUES ('user', 1000);

CREATE TABLE friend (
    self_id   INTEGER NOT NULL,
    friend_id INTEGER NOT NULL,
    back      TEXT    NOT NULL DEFAULT '',
    PRIMARY KEY (self_id, friend_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE friend_apply (
    from_uid   INTEGER NOT NULL,
    to_uid     INTEGER NOT NULL,
    status     INTEGER NOT NULL DEFAULT 0,
    descs      TEXT    NOT NULL DEFAULT '',
    back_name  TEXT    NOT NULL DEFAULT '',
    applied_ms INTEGER NOT NULL,
    PRIMARY KEY (from_uid, to_uid)
) STRICT, WITHOUT ROWID;
CREATE INDEX friend_apply_to ON friend_apply (to_uid, status, applied_ms);

CREATE TABLE chat_thread (
    id         INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id BETWEEN 1 AND 2147483647),
    type       TEXT    NOT NULL DEFAULT 'private' CHECK (type IN ('private', 'group')),
    last_seq   INTEGER NOT NULL DEFAULT 0 CHECK (last_seq BETWEEN 0 AND 2147483647),
    created_ms INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE private_chat (
    thread_id  INTEGER PRIMARY KEY,
    user1_id   INTEGER NOT NULL,
    user2_id   INTEGER NOT NULL,
    created_ms INTEGER NOT NULL DEFAULT 0,
    UNIQUE (user1_id, user2_id)
) STRICT;
CREATE INDEX private_chat_user1 ON private_chat (user1_id, thread_id);
CREATE INDEX private_chat_user2 ON private_chat (user2_id, thread_id);

CREATE TABLE group_chat (
    thread_id  INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL DEFAULT '',
    created_ms INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE group_chat_member (
    thread_id      INTEGER NOT NULL,
    user_id        INTEGER NOT NULL,
    role           INTEGER NOT NULL DEFAULT 0,
    joined_ms      INTEGER NOT NULL DEFAULT 0,
    muted_until_ms INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (thread_id, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX group_chat_member_user ON group_chat_member (user_id, thread_id);

CREATE TABLE chat_message (
    thread_id  INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    sender_id  INTEGER NOT NULL,
    unique_id  TEXT    NOT NULL CHECK (octet_length(unique_id) <= 64),
    content    TEXT    NOT NULL CHECK (octet_length(content) <= 65535),
    status     INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (thread_id, seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX chat_message_unique_id ON chat_message (sender_id, unique_id);

CREATE TABLE node_fence (
    node TEXT NOT NULL PRIMARY KEY,
    boot TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE node_fence;
DROP TABLE chat_message;
DROP TABLE group_chat_member;
DROP TABLE group_chat;
DROP TABLE private_chat;
DROP TABLE chat_thread;
DROP TABLE friend_apply;
DROP TABLE friend;
DROP TABLE user;
