-- +goose Up
ALTER TABLE chat_thread ADD COLUMN active INTEGER NOT NULL DEFAULT 0;  -- unix time / 600 of the newest row
ALTER TABLE private_chat ADD COLUMN active INTEGER NOT NULL DEFAULT 0; -- chat_thread.active
CREATE INDEX private_chat_active1 ON private_chat (user1_id, active, thread_id);
CREATE INDEX private_chat_active2 ON private_chat (user2_id, active, thread_id);

-- +goose Down
DROP INDEX private_chat_active2;
DROP INDEX private_chat_active1;
ALTER TABLE private_chat DROP COLUMN active;
ALTER TABLE chat_thread DROP COLUMN active;
