-- +goose Up
ALTER TABLE chat_message ADD COLUMN edited_seq INTEGER NOT NULL DEFAULT 0; -- the row that tells of the last edit; 0: none

-- What users have deleted for themselves.
CREATE TABLE hidden_message (
    user_id   INTEGER NOT NULL,
    thread_id INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    PRIMARY KEY (user_id, thread_id, seq)
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE hidden_message;
ALTER TABLE chat_message DROP COLUMN edited_seq;
