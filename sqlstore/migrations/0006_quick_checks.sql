-- SQLite makes a table of its own for each IN of three values and more, fills it and drops it again, whenever a row is written: that was a
-- quarter of what a payment cost. With OR it compares; the states that are written most come first. SQLite cannot change a CHECK, so the tables
-- of money are made anew.

-- +goose Up

DROP INDEX operations_by_id;

DROP INDEX operations_due;

DROP INDEX operations_sealed;

DROP INDEX operations_sealed_in_vain;

DROP INDEX payments_by_time;

DROP INDEX payments_due;

ALTER TABLE payments RENAME TO payments_before_0006;

ALTER TABLE operations RENAME TO operations_before_0006;

ALTER TABLE ledger_entries RENAME TO ledger_entries_before_0006;

CREATE TABLE payments (
    merchant_id    BIGINT NOT NULL,
    id             BIGINT NOT NULL,
    version        BIGINT NOT NULL,
    state          TEXT   NOT NULL
                   CHECK (state = 'captured' OR state = 'open' OR state = 'declined' OR state = 'authorized' OR
                          state = 'cancelled' OR state = 'expired' OR state = 'voided'),
    protocol       TEXT   NOT NULL,
    key_scope      TEXT   NOT NULL,
    key            TEXT   NOT NULL,
    credential_id  BIGINT NOT NULL,
    store_id       BIGINT NOT NULL,
    terminal_id    BIGINT NOT NULL,
    number_prefix  TEXT   NOT NULL,
    number_digits  BIGINT NOT NULL,
    currency       TEXT   NOT NULL CHECK (length(currency) = 3),
    amount         BIGINT NOT NULL CHECK (amount >= 0),
    tip            BIGINT NOT NULL CHECK (tip >= 0 AND tip <= amount),
    method         TEXT   NOT NULL,
    flow           TEXT   NOT NULL,
    attempt_id     BIGINT NOT NULL,
    authorize_only BIGINT NOT NULL CHECK (authorize_only IN (0, 1)),
    retryable      BIGINT NOT NULL CHECK (retryable IN (0, 1)),
    captured       BIGINT NOT NULL CHECK (captured >= 0 AND captured <= amount),
    reserved       BIGINT NOT NULL CHECK (reserved <= captured),
    refunded       BIGINT NOT NULL CHECK (refunded >= 0 AND refunded <= reserved),
    fee            BIGINT NOT NULL CHECK (fee >= 0),
    fee_returned   BIGINT NOT NULL CHECK (fee_returned IN (0, 1)),
    fee_millionths BIGINT NOT NULL,
    fee_fixed      BIGINT NOT NULL,
    zone           TEXT   NOT NULL,
    cut_off        BIGINT NOT NULL,
    failure        TEXT   NOT NULL,
    failure_text   TEXT   NOT NULL,
    created_at     BIGINT NOT NULL,
    modified_at    BIGINT NOT NULL,
    expires_at     BIGINT NOT NULL,
    paid_at        BIGINT NOT NULL,
    business_day   BIGINT NOT NULL,
    due_at         BIGINT NOT NULL,
    echo           TEXT   NOT NULL,
    reference      TEXT   NOT NULL,
    PRIMARY KEY (merchant_id, id)
);

CREATE TABLE operations (
    merchant_id  BIGINT NOT NULL,
    payment_id   BIGINT NOT NULL,
    id           BIGINT NOT NULL,
    version      BIGINT NOT NULL,
    kind         TEXT   NOT NULL
                 CHECK (kind = 'sale' OR kind = 'authorize' OR kind = 'capture' OR kind = 'refund' OR
                        kind = 'reversal' OR kind = 'void' OR kind = 'cancel' OR kind = 'close'),
    state        TEXT   NOT NULL
                 CHECK (state = 'approved' OR state = 'sent' OR state = 'declined' OR state = 'waiting' OR
                        state = 'unknown' OR state = 'reversing' OR state = 'reversed' OR state = 'created'),
    target_id    BIGINT NOT NULL,
    key_scope    TEXT   NOT NULL,
    key          TEXT   NOT NULL,
    number       TEXT   NOT NULL,
    round        BIGINT NOT NULL,
    acquirer     TEXT   NOT NULL,
    currency     TEXT   NOT NULL CHECK (length(currency) = 3),
    amount       BIGINT NOT NULL CHECK (amount >= 0),
    rest         BIGINT NOT NULL CHECK (rest IN (0, 1)),
    failure      TEXT   NOT NULL,
    failure_text TEXT   NOT NULL,
    result       TEXT   NOT NULL,
    business_day BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    settled_at   BIGINT NOT NULL,
    due_at       BIGINT NOT NULL,
    owner        BIGINT NOT NULL,
    tries        BIGINT NOT NULL,
    flagged      BIGINT NOT NULL CHECK (flagged IN (0, 1)),
    echo         TEXT   NOT NULL,
    sent_at      BIGINT NOT NULL,
    card         TEXT   NOT NULL,
    sealed       TEXT   NOT NULL,
    PRIMARY KEY (merchant_id, payment_id, id),
    FOREIGN KEY (merchant_id, payment_id) REFERENCES payments (merchant_id, id) DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE ledger_entries (
    merchant_id  BIGINT NOT NULL,
    payment_id   BIGINT NOT NULL,
    operation_id BIGINT NOT NULL,
    currency     TEXT   NOT NULL CHECK (length(currency) = 3),
    acquirer     TEXT   NOT NULL,
    business_day BIGINT NOT NULL,
    receivable   BIGINT NOT NULL,
    payable      BIGINT NOT NULL,
    fees         BIGINT NOT NULL,
    tips         BIGINT NOT NULL,
    posted_at    BIGINT NOT NULL,
    PRIMARY KEY (merchant_id, payment_id, operation_id),
    FOREIGN KEY (merchant_id, payment_id, operation_id) REFERENCES operations (merchant_id, payment_id, id)
        DEFERRABLE INITIALLY DEFERRED,
    CHECK (receivable + payable + fees + tips = 0)
);

CREATE INDEX operations_by_id ON operations (merchant_id, id) WHERE id <> payment_id;

CREATE INDEX operations_due ON operations (owner, due_at) WHERE due_at > 0;

CREATE INDEX operations_sealed ON operations (created_at) WHERE sealed <> '';

CREATE INDEX operations_sealed_in_vain ON operations (settled_at) WHERE sealed <> '' AND state IN ('declined', 'reversed');

CREATE INDEX payments_by_time ON payments (merchant_id, created_at, id);

CREATE INDEX payments_due ON payments (due_at) WHERE due_at > 0;

INSERT INTO payments (merchant_id, id, version, state, protocol, key_scope, key, credential_id, store_id, terminal_id, number_prefix,
number_digits, currency, amount, tip, method, flow, attempt_id, authorize_only, retryable, captured, reserved, refunded, fee, fee_returned,
fee_millionths, fee_fixed, zone, cut_off, failure, failure_text, created_at, modified_at, expires_at, paid_at, business_day, due_at, echo,
reference)
SELECT merchant_id, id, version, state, protocol, key_scope, key, credential_id, store_id, terminal_id, number_prefix, number_digits,
currency, amount, tip, method, flow, attempt_id, authorize_only, retryable, captured, reserved, refunded, fee, fee_returned, fee_millionths,
fee_fixed, zone, cut_off, failure, failure_text, created_at, modified_at, expires_at, paid_at, business_day, due_at, echo, reference
FROM payments_before_0006;

INSERT INTO operations (merchant_id, payment_id, id, version, kind, state, target_id, key_scope, key, number, round, acquirer, currency,
amount, rest, failure, failure_text, result, business_day, created_at, settled_at, due_at, owner, tries, flagged, echo, sent_at, card,
sealed)
SELECT merchant_id, payment_id, id, version, kind, state, target_id, key_scope, key, number, round, acquirer, currency, amount, rest,
failure, failure_text, result, business_day, created_at, settled_at, due_at, owner, tries, flagged, echo, sent_at, card, sealed
FROM operations_before_0006;

INSERT INTO ledger_entries (merchant_id, payment_id, operation_id, currency, acquirer, business_day, receivable, payable, fees, tips,
posted_at)
SELECT merchant_id, payment_id, operation_id, currency, acquirer, business_day, receivable, payable, fees, tips, posted_at
FROM ledger_entries_before_0006;

DROP TABLE ledger_entries_before_0006;

DROP TABLE operations_before_0006;

DROP TABLE payments_before_0006;
