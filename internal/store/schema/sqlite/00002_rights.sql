-- +goose Up
ALTER TABLE chat_thread ADD COLUMN member_ver INTEGER NOT NULL DEFAULT 0 CHECK (member_ver BETWEEN 0 AND 2147483647);
ALTER TABLE user ADD COLUMN deleted_ms INTEGER NOT NULL DEFAULT 0;

CREATE TABLE user_block (
    uid         INTEGER NOT NULL,
    blocked_uid INTEGER NOT NULL,
    created_ms  INTEGER NOT NULL,
    PRIMARY KEY (uid, blocked_uid)
) STRICT, WITHOUT ROWID;
CREATE INDEX user_block_blocked ON user_block (blocked_uid);

-- +goose Down
DROP TABLE user_block;
ALTER TABLE user DROP COLUMN deleted_ms;
ALTER TABLE chat_thread DROP COLUMN member_ver;
