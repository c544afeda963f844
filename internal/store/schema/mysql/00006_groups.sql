-- As 00002: what is there already is left out, so that a run that was cut short can be repeated. One statement adds all
-- columns of a table, without a copy of it.

-- +goose NO TRANSACTION
-- +goose Up
SET @parley_ddl = (SELECT IF(COUNT(*) = 0,
    'ALTER TABLE chat_message
        ADD COLUMN kind      TINYINT       NOT NULL DEFAULT 0 COMMENT ''0 text, 1 event, 2 recall, 3 edit'',
        ADD COLUMN type      VARBINARY(32) NOT NULL DEFAULT '''' COMMENT ''content type'',
        ADD COLUMN edited_ms BIGINT        NOT NULL DEFAULT 0',
    'DO 0') FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'chat_message' AND column_name = 'kind');
PREPARE parley_ddl FROM @parley_ddl;
EXECUTE parley_ddl;
DEALLOCATE PREPARE parley_ddl;

SET @parley_ddl = (SELECT IF(COUNT(*) = 0,
    'ALTER TABLE group_chat
        ADD COLUMN owner_id        INT     NOT NULL DEFAULT 0,
        ADD COLUMN muted           TINYINT NOT NULL DEFAULT 0 COMMENT ''members may not write'',
        ADD COLUMN history_for_new TINYINT NOT NULL DEFAULT 0 COMMENT ''new members read from the beginning'',
        ADD COLUMN members         INT     NOT NULL DEFAULT 0 COMMENT ''present members'',
        ADD COLUMN dissolved_ms    BIGINT  NOT NULL DEFAULT 0 COMMENT ''when it was dissolved; 0: it was not''',
    'DO 0') FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'group_chat' AND column_name = 'owner_id');
PREPARE parley_ddl FROM @parley_ddl;
EXECUTE parley_ddl;
DEALLOCATE PREPARE parley_ddl;

SET @parley_ddl = (SELECT IF(COUNT(*) = 0,
    'ALTER TABLE group_chat_member
        ADD COLUMN from_seq  INT          NOT NULL DEFAULT 0 COMMENT ''the first row the member may read'',
        ADD COLUMN left_seq  INT          NOT NULL DEFAULT 0 COMMENT ''the last one; 0: is a member'',
        ADD COLUMN left_name VARCHAR(255) NOT NULL DEFAULT '''' COMMENT ''the name of the group then'',
        ADD COLUMN removed   TINYINT      NOT NULL DEFAULT 0 COMMENT ''by somebody else: comes back by invitation only''',
    'DO 0') FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'group_chat_member' AND column_name = 'from_seq');
PREPARE parley_ddl FROM @parley_ddl;
EXECUTE parley_ddl;
DEALLOCATE PREPARE parley_ddl;

CREATE TABLE IF NOT EXISTS group_link (
    code       VARBINARY(64) NOT NULL,
    thread_id  INT           NOT NULL,
    created_by INT           NOT NULL,
    created_ms BIGINT        NOT NULL,
    expires_ms BIGINT        NOT NULL,
    uses_left  INT           NOT NULL,
    PRIMARY KEY (code),
    KEY group_link_thread (thread_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS group_link;
ALTER TABLE group_chat_member DROP COLUMN from_seq, DROP COLUMN left_seq, DROP COLUMN left_name, DROP COLUMN removed;
ALTER TABLE group_chat DROP COLUMN owner_id, DROP COLUMN muted, DROP COLUMN history_for_new, DROP COLUMN members,
    DROP COLUMN dissolved_ms;
ALTER TABLE chat_message DROP COLUMN kind, DROP COLUMN type, DROP COLUMN edited_ms;
