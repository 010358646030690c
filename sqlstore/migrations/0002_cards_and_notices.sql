-- Card payments: what is kept of a card, numbers of a link's own, answers kept beside keys; and notices, which callers are owed.

-- +goose Up

ALTER TABLE payments ADD COLUMN reference TEXT NOT NULL DEFAULT '';

ALTER TABLE operations ADD COLUMN sent_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE operations ADD COLUMN card    TEXT   NOT NULL DEFAULT ''; -- JSON of what may be shown.
ALTER TABLE operations ADD COLUMN sealed  TEXT   NOT NULL DEFAULT ''; -- Hexadecimal; the card's number under the vault's key.

-- A payment's first attempt has the payment's own ID; the others are found by this.
CREATE INDEX operations_by_id ON operations (merchant_id, id) WHERE id <> payment_id;

-- Sealed numbers are wiped when nothing can need them any more.
CREATE INDEX operations_sealed ON operations (created_at) WHERE sealed <> '';

ALTER TABLE payment_keys ADD COLUMN free_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE payment_keys ADD COLUMN answer  TEXT   NOT NULL DEFAULT '';

CREATE TABLE webhooks (
    merchant_id BIGINT NOT NULL REFERENCES merchants (id),
    id          BIGINT NOT NULL,
    protocol    TEXT   NOT NULL,
    url         TEXT   NOT NULL,
    events      TEXT   NOT NULL, -- With commas between; '' for all.
    secret      TEXT   NOT NULL, -- Hexadecimal, sealed; '' for none.
    seconds     BIGINT NOT NULL CHECK (seconds IN (0, 1)),
    disabled    BIGINT NOT NULL CHECK (disabled IN (0, 1)),
    PRIMARY KEY (merchant_id, id)
);

CREATE TABLE notices (
    merchant_id BIGINT NOT NULL,
    id          BIGINT NOT NULL,
    payment_id  BIGINT NOT NULL,
    protocol    TEXT   NOT NULL,
    event       TEXT   NOT NULL,
    url         TEXT   NOT NULL,
    endpoint_id BIGINT NOT NULL, -- 0 for an address that came with the payment.
    signer      TEXT   NOT NULL,
    body        TEXT   NOT NULL,
    due_at      BIGINT NOT NULL, -- 0 once it was accepted or given up.
    tries       BIGINT NOT NULL,
    outcome     TEXT   NOT NULL, -- What the last try met, for people.
    settled_at  BIGINT NOT NULL,
    PRIMARY KEY (merchant_id, id)
);

CREATE INDEX notices_due ON notices (due_at) WHERE due_at > 0;
