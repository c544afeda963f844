-- MySQL commits around every DDL statement, so there is no transaction to run this in: IF NOT EXISTS lets a run that was
-- cut short be repeated. Texts compare by bytes (utf8mb4_bin exists on MySQL and MariaDB alike); what must compare
-- without case has a key column that Go lower-cases, so that both engines agree on what "the same" is.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS user (
    uid        INT             NOT NULL AUTO_INCREMENT,
    name       VARCHAR(255)    NOT NULL,
    name_key   VARBINARY(1020) NOT NULL COMMENT 'lower-cased name, made by store.Key',
    email      VARCHAR(255)    NOT NULL,
    email_key  VARBINARY(1020) NOT NULL COMMENT 'lower-cased address, made by store.Key',
    pwd        VARBINARY(1020) NOT NULL COMMENT 'argon2id PHC string, or llfcchat''s XOR string until the next login',
    nick       VARCHAR(255)    NOT NULL DEFAULT '',
    `desc`     VARCHAR(255)    NOT NULL DEFAULT '',
    icon       VARCHAR(255)    NOT NULL DEFAULT '',
    sex        INT             NOT NULL DEFAULT 0,
    created_ms BIGINT          NOT NULL DEFAULT 0,
    PRIMARY KEY (uid),
    UNIQUE KEY user_name (name_key),
    UNIQUE KEY user_email (email_key)
) ENGINE = InnoDB AUTO_INCREMENT = 1001 ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Two rows a friendship; back is the name self gave the friend.
CREATE TABLE IF NOT EXISTS friend (
    self_id   INT          NOT NULL,
    friend_id INT          NOT NULL,
    back      VARCHAR(255) NOT NULL DEFAULT '',
    PRIMARY KEY (self_id, friend_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS friend_apply (
    from_uid   INT          NOT NULL,
    to_uid     INT          NOT NULL,
    status     SMALLINT     NOT NULL DEFAULT 0 COMMENT '0 pending, 1 accepted',
    descs      VARCHAR(255) NOT NULL DEFAULT '' COMMENT 'the greeting',
    back_name  VARCHAR(255) NOT NULL DEFAULT '' COMMENT 'the name the applicant gives the other',
    applied_ms BIGINT       NOT NULL,
    PRIMARY KEY (from_uid, to_uid),
    KEY friend_apply_to (to_uid, status, applied_ms)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Ids are INT and not BIGINT on purpose: the stock client keeps them in 31 bits, and the engine refuses what is larger.
CREATE TABLE IF NOT EXISTS chat_thread (
    id         INT                       NOT NULL AUTO_INCREMENT,
    type       ENUM ('private', 'group') NOT NULL DEFAULT 'private',
    last_seq   INT                       NOT NULL DEFAULT 0 COMMENT 'the seq of the newest message; its row lock orders appends',
    created_ms BIGINT                    NOT NULL DEFAULT 0,
    PRIMARY KEY (id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- user1_id < user2_id always, so that a pair has one row.
CREATE TABLE IF NOT EXISTS private_chat (
    thread_id  INT    NOT NULL,
    user1_id   INT    NOT NULL,
    user2_id   INT    NOT NULL,
    created_ms BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (thread_id),
    UNIQUE KEY private_chat_pair (user1_id, user2_id),
    KEY private_chat_user1 (user1_id, thread_id),
    KEY private_chat_user2 (user2_id, thread_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS group_chat (
    thread_id  INT          NOT NULL,
    name       VARCHAR(255) NOT NULL DEFAULT '',
    created_ms BIGINT       NOT NULL DEFAULT 0,
    PRIMARY KEY (thread_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS group_chat_member (
    thread_id      INT     NOT NULL,
    user_id        INT     NOT NULL,
    role           TINYINT NOT NULL DEFAULT 0 COMMENT '0 member, 1 admin, 2 creator',
    joined_ms      BIGINT  NOT NULL DEFAULT 0,
    muted_until_ms BIGINT  NOT NULL DEFAULT 0,
    PRIMARY KEY (thread_id, user_id),
    KEY group_chat_member_user (user_id, thread_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS chat_message (
    thread_id  INT           NOT NULL,
    seq        INT           NOT NULL COMMENT 'dense from 1 in each thread; message_id on the wire',
    sender_id  INT           NOT NULL,
    unique_id  VARBINARY(64) NOT NULL COMMENT 'chosen by the sender; a resend repeats it',
    content    TEXT          NOT NULL,
    status     TINYINT       NOT NULL DEFAULT 0,
    created_ms BIGINT        NOT NULL,
    PRIMARY KEY (thread_id, seq),
    UNIQUE KEY chat_message_unique_id (sender_id, unique_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- The boot id a node must have to store anything; '' when it was fenced off.
CREATE TABLE IF NOT EXISTS node_fence (
    node VARBINARY(255) NOT NULL,
    boot VARBINARY(64)  NOT NULL,
    PRIMARY KEY (node)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- +goose Down
DROP TABLE IF EXISTS node_fence;
DROP TABLE IF EXISTS chat_message;
DROP TABLE IF EXISTS group_chat_member;
DROP TABLE IF EXISTS group_chat;
DROP TABLE IF EXISTS private_chat;
DROP TABLE IF EXISTS chat_thread;
DROP TABLE IF EXISTS friend_apply;
DROP TABLE IF EXISTS friend;
DROP TABLE IF EXISTS user;
