-- Settlement batches: the approved operations of one acquirer, merchant, currency and business day, agreed with the acquirer.

-- +goose Up

CREATE TABLE batches (
    merchant_id  BIGINT NOT NULL,
    id           BIGINT NOT NULL,
    acquirer     TEXT   NOT NULL,
    currency     TEXT   NOT NULL CHECK (length(currency) = 3),
    business_day BIGINT NOT NULL, -- The last day that is in it.
    state        TEXT   NOT NULL CHECK (state IN ('open', 'balanced', 'out_of_balance')),
    debits       BIGINT NOT NULL,
    debit_minor  BIGINT NOT NULL,
    credits      BIGINT NOT NULL,
    credit_minor BIGINT NOT NULL,
    uploaded     BIGINT NOT NULL, -- Movements that were uploaded because the totals differed at first.
    code         TEXT   NOT NULL, -- The acquirer's last word.
    created_at   BIGINT NOT NULL,
    settled_at   BIGINT NOT NULL,
    PRIMARY KEY (merchant_id, id)
);

-- An operation is in one batch, for ever. One that another took back is in it too, but does not count.
CREATE TABLE batch_items (
    merchant_id  BIGINT NOT NULL,
    payment_id   BIGINT NOT NULL,
    operation_id BIGINT NOT NULL,
    batch_id     BIGINT NOT NULL,
    counts       BIGINT NOT NULL CHECK (counts IN (0, 1)),
    PRIMARY KEY (merchant_id, payment_id, operation_id),
    FOREIGN KEY (merchant_id, batch_id) REFERENCES batches (merchant_id, id)
);

CREATE INDEX batch_items_batch ON batch_items (merchant_id, batch_id);
