-- As 00002: what is there already is left out, so that a run that was cut short can be repeated.

-- +goose NO TRANSACTION
-- +goose Up
SET @parley_ddl = (SELECT IF(COUNT(*) = 0,
    'ALTER TABLE chat_message ADD COLUMN edited_seq INT NOT NULL DEFAULT 0 COMMENT ''the row that tells of the last edit; 0: none''',
    'DO 0') FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'chat_message' AND column_name = 'edited_seq');
PREPARE parley_ddl FROM @parley_ddl;
EXECUTE parley_ddl;
DEALLOCATE PREPARE parley_ddl;

-- What users have deleted for themselves.
CREATE TABLE IF NOT EXISTS hidden_message (
    user_id   INT NOT NULL,
    thread_id INT NOT NULL,
    seq       INT NOT NULL,
    PRIMARY KEY (user_id, thread_id, seq)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS hidden_message;
ALTER TABLE chat_message DROP COLUMN edited_seq;
