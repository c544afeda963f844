-- +goose Up
CREATE TABLE read_mark (
    thread_id INTEGER NOT NULL,
    user_id   INTEGER NOT NULL,
    read_seq  INTEGER NOT NULL,
    recv_seq  INTEGER NOT NULL,
    PRIMARY KEY (thread_id, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX read_mark_user ON read_mark (user_id, thread_id);

-- +goose Down
DROP TABLE read_mark;
