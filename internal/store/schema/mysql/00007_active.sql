-- When threads were active, in units of ten minutes, so that a user's changed threads are found without reading all of
-- them. As 00002: what is there already is left out. The columns and indexes are added without a copy of the table.

-- +goose NO TRANSACTION
-- +goose Up
SET @parley_ddl = (SELECT IF(COUNT(*) = 0,
    'ALTER TABLE chat_thread ADD COLUMN active INT NOT NULL DEFAULT 0 COMMENT ''unix time / 600 of the newest row''',
    'DO 0') FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'chat_thread' AND column_name = 'active');
PREPARE parley_ddl FROM @parley_ddl;
EXECUTE parley_ddl;
DEALLOCATE PREPARE parley_ddl;

SET @parley_ddl = (SELECT IF(COUNT(*) = 0,
    'ALTER TABLE private_chat
        ADD COLUMN active INT NOT NULL DEFAULT 0 COMMENT ''chat_thread.active'',
        ADD KEY private_chat_active1 (user1_id, active, thread_id),
        ADD KEY private_chat_active2 (user2_id, active, thread_id)',
    'DO 0') FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'private_chat' AND column_name = 'active');
PREPARE parley_ddl FROM @parley_ddl;
EXECUTE parley_ddl;
DEALLOCATE PREPARE parley_ddl;

-- +goose Down
ALTER TABLE private_chat DROP KEY private_chat_active1, DROP KEY private_chat_active2, DROP COLUMN active;
ALTER TABLE chat_thread DROP COLUMN active;
