-- As 00002: a run that was cut short can be repeated.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS read_mark (
    thread_id INT NOT NULL,
    user_id   INT NOT NULL,
    read_seq  INT NOT NULL COMMENT 'the last row that the user has read',
    recv_seq  INT NOT NULL COMMENT 'the last row that a device of the user has; never below read_seq',
    PRIMARY KEY (thread_id, user_id),
    KEY read_mark_user (user_id, thread_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS read_mark;
