-- +goose Up
ALTER TABLE chat_message ADD COLUMN kind INTEGER NOT NULL DEFAULT 0; -- 0 text, 1 event, 2 recall, 3 edit
ALTER TABLE chat_message ADD COLUMN type TEXT NOT NULL DEFAULT '';
ALTER TABLE chat_message ADD COLUMN edited_ms INTEGER NOT NULL DEFAULT 0;

ALTER TABLE group_chat ADD COLUMN owner_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE group_chat ADD COLUMN muted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE group_chat ADD COLUMN history_for_new INTEGER NOT NULL DEFAULT 0;
ALTER TABLE group_chat ADD COLUMN members INTEGER NOT NULL DEFAULT 0;
ALTER TABLE group_chat ADD COLUMN dissolved_ms INTEGER NOT NULL DEFAULT 0;

ALTER TABLE group_chat_member ADD COLUMN from_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE group_chat_member ADD COLUMN left_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE group_chat_member ADD COLUMN left_name TEXT NOT NULL DEFAULT '';
ALTER TABLE group_chat_member ADD COLUMN removed INTEGER NOT NULL DEFAULT 0;

CREATE TABLE group_link (
    code       TEXT    NOT NULL PRIMARY KEY,
    thread_id  INTEGER NOT NULL,
    created_by INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    uses_left  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX group_link_thread ON group_link (thread_id);

-- +goose Down
DROP TABLE group_link;
ALTER TABLE group_chat_member DROP COLUMN removed;
ALTER TABLE group_chat_member DROP COLUMN left_name;
ALTER TABLE group_chat_member DROP COLUMN left_seq;
ALTER TABLE group_chat_member DROP COLUMN from_seq;
ALTER TABLE group_chat DROP COLUMN dissolved_ms;
ALTER TABLE group_chat DROP COLUMN members;
ALTER TABLE group_chat DROP COLUMN history_for_new;
ALTER TABLE group_chat DROP COLUMN muted;
ALTER TABLE group_chat DROP COLUMN owner_id;
ALTER TABLE chat_message DROP COLUMN edited_ms;
ALTER TABLE chat_message DROP COLUMN type;
ALTER TABLE chat_message DROP COLUMN kind;
