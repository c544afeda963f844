-- MySQL has no ADD COLUMN IF NOT EXISTS (MariaDB has), so that each column is added only if information_schema lacks it: a
-- run that was cut short can be repeated, as 00001 can. Both columns are added in place, without a copy of the table.

-- +goose NO TRANSACTION
-- +goose Up
SET @parley_ddl = (SELECT IF(COUNT(*) = 0,
    'ALTER TABLE chat_thread ADD COLUMN member_ver INT NOT NULL DEFAULT 0 COMMENT ''raised with each change of who may write or read''',
    'DO 0') FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'chat_thread' AND column_name = 'member_ver');
PREPARE parley_ddl FROM @parley_ddl;
EXECUTE parley_ddl;
DEALLOCATE PREPARE parley_ddl;

SET @parley_ddl = (SELECT IF(COUNT(*) = 0,
    'ALTER TABLE user ADD COLUMN deleted_ms BIGINT NOT NULL DEFAULT 0 COMMENT ''when the account was deleted; 0: it was not''',
    'DO 0') FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'user' AND column_name = 'deleted_ms');
PREPARE parley_ddl FROM @parley_ddl;
EXECUTE parley_ddl;
DEALLOCATE PREPARE parley_ddl;

-- uid has blocked blocked_uid.
CREATE TABLE IF NOT EXISTS user_block (
    uid         INT    NOT NULL,
    blocked_uid INT    NOT NULL,
    created_ms  BIGINT NOT NULL,
    PRIMARY KEY (uid, blocked_uid),
    KEY user_block_blocked (blocked_uid)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS user_block;
ALTER TABLE user DROP COLUMN deleted_ms;
ALTER TABLE chat_thread DROP COLUMN member_ver;
