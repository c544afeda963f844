-- +goose Up
-- Names this body of data, so that clients notice when it was replaced by another.
CREATE TABLE data_identity (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    id  TEXT    NOT NULL
) STRICT;
INSERT INTO data_identity (one, id) VALUES (1, lower(hex(randomblob(16))));

-- +goose Down
DROP TABLE data_identity;
