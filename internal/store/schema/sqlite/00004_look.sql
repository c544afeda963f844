-- +goose Up
CREATE TABLE user_look (
    look BLOB    NOT NULL PRIMARY KEY, -- SHA-256 of names.Look of the user's name: two names that look alike share it
    uid  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE user_look;
