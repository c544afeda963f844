-- +goose Up
ALTER TABLE user ADD COLUMN visible INTEGER NOT NULL DEFAULT 1; -- friends may see whether the user is online

-- +goose Down
ALTER TABLE user DROP COLUMN visible;
