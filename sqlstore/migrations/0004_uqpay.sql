-- Lists of payments, the newest first, and which access token of a client is its newest.

-- +goose Up

CREATE INDEX payments_by_time ON payments (merchant_id, created_at, id);

CREATE TABLE newest_tokens (
    merchant_id   BIGINT NOT NULL,
    credential_id BIGINT NOT NULL,
    token_id      TEXT   NOT NULL, -- Of the token, which is not kept.
    PRIMARY KEY (merchant_id, credential_id)
);
