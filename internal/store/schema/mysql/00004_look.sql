-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS user_look (
    look BINARY(32) NOT NULL COMMENT 'SHA-256 of names.Look of the user''s name: two names that look alike share it',
    uid  INT        NOT NULL,
    PRIMARY KEY (look)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS user_look;
