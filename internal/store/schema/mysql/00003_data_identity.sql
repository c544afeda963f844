-- +goose NO TRANSACTION
-- +goose Up
-- Names this body of data, so that clients notice when it was replaced by another.
CREATE TABLE IF NOT EXISTS data_identity (
    one TINYINT  NOT NULL PRIMARY KEY,
    id  CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
INSERT IGNORE INTO data_identity (one, id) VALUES (1, MD5(CONCAT(UUID(), RAND(), CONNECTION_ID())));

-- +goose Down
DROP TABLE IF EXISTS data_identity;
