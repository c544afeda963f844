-- As 00002: what is there already is left out, so that a run that was cut short can be repeated.

-- +goose NO TRANSACTION
-- +goose Up
SET @parley_ddl = (SELECT IF(COUNT(*) = 0,
    'ALTER TABLE user ADD COLUMN visible TINYINT NOT NULL DEFAULT 1 COMMENT ''friends may see whether the user is online''',
    'DO 0') FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'user' AND column_name = 'visible');
PREPARE parley_ddl FROM @parley_ddl;
EXECUTE parley_ddl;
DEALLOCATE PREPARE parley_ddl;

-- +goose Down
ALTER TABLE user DROP COLUMN visible;
