-- A payment's first attempt, nearly always its only one, lives in the payment's own row: one row less is written when it is sent, one less
-- when it is answered, and one index less has pages all over the disk. All other operations are later_operations; the view operations
-- reads both. SQLite cannot change a CHECK, so the tables of money are made anew. A program from before this cannot write here any more.

-- +goose Up

DROP INDEX operations_by_id;

DROP INDEX operations_due;

DROP INDEX operations_sealed;

DROP INDEX operations_sealed_in_vain;

DROP INDEX payments_by_time;

DROP INDEX payments_due;

ALTER TABLE payments RENAME TO payments_before_0007;

ALTER TABLE operations RENAME TO operations_before_0007;

ALTER TABLE ledger_entries RENAME TO ledger_entries_before_0007;

-- What begins with first_ is the first attempt, whose ID is the payment's: '' and 0 for none. It has no target, key, round, rest or echo.
CREATE TABLE payments (
    merchant_id        BIGINT NOT NULL,
    id                 BIGINT NOT NULL,
    version            BIGINT NOT NULL,
    state              TEXT   NOT NULL
                       CHECK (state = 'captured' OR state = 'open' OR state = 'declined' OR state = 'authorized' OR
                              state = 'cancelled' OR state = 'expired' OR state = 'voided'),
    protocol           TEXT   NOT NULL,
    key_scope          TEXT   NOT NULL,
    key                TEXT   NOT NULL,
    credential_id      BIGINT NOT NULL,
    store_id           BIGINT NOT NULL,
    terminal_id        BIGINT NOT NULL,
    number_prefix      TEXT   NOT NULL,
    number_digits      BIGINT NOT NULL,
    currency           TEXT   NOT NULL CHECK (length(currency) = 3),
    amount             BIGINT NOT NULL CHECK (amount >= 0),
    tip                BIGINT NOT NULL CHECK (tip >= 0 AND tip <= amount),
    method             TEXT   NOT NULL,
    flow               TEXT   NOT NULL,
    attempt_id         BIGINT NOT NULL,
    authorize_only     BIGINT NOT NULL CHECK (authorize_only IN (0, 1)),
    retryable          BIGINT NOT NULL CHECK (retryable IN (0, 1)),
    captured           BIGINT NOT NULL CHECK (captured >= 0 AND captured <= amount),
    reserved           BIGINT NOT NULL CHECK (reserved <= captured),
    refunded           BIGINT NOT NULL CHECK (refunded >= 0 AND refunded <= reserved),
    fee                BIGINT NOT NULL CHECK (fee >= 0),
    fee_returned       BIGINT NOT NULL CHECK (fee_returned IN (0, 1)),
    fee_millionths     BIGINT NOT NULL,
    fee_fixed          BIGINT NOT NULL,
    zone               TEXT   NOT NULL,
    cut_off            BIGINT NOT NULL,
    failure            TEXT   NOT NULL,
    failure_text       TEXT   NOT NULL,
    created_at         BIGINT NOT NULL,
    modified_at        BIGINT NOT NULL,
    expires_at         BIGINT NOT NULL,
    paid_at            BIGINT NOT NULL,
    business_day       BIGINT NOT NULL,
    due_at             BIGINT NOT NULL,
    echo               TEXT   NOT NULL,
    reference          TEXT   NOT NULL,
    first_version      BIGINT NOT NULL,
    first_kind         TEXT   NOT NULL CHECK (first_kind = 'sale' OR first_kind = 'authorize' OR first_kind = ''),
    first_state        TEXT   NOT NULL
                       CHECK (first_state = 'approved' OR first_state = 'sent' OR first_state = 'declined' OR first_state = 'waiting' OR
                              first_state = 'unknown' OR first_state = 'reversing' OR first_state = 'reversed' OR first_state = 'created' OR
                              first_state = ''),
    first_number       TEXT   NOT NULL,
    first_acquirer     TEXT   NOT NULL,
    first_currency     TEXT   NOT NULL CHECK (length(first_currency) = 3 OR first_kind = ''),
    first_amount       BIGINT NOT NULL CHECK (first_amount >= 0),
    first_failure      TEXT   NOT NULL,
    first_failure_text TEXT   NOT NULL,
    first_result       TEXT   NOT NULL,
    first_business_day BIGINT NOT NULL,
    first_created_at   BIGINT NOT NULL,
    first_settled_at   BIGINT NOT NULL,
    first_due_at       BIGINT NOT NULL,
    first_owner        BIGINT NOT NULL,
    first_tries        BIGINT NOT NULL,
    first_flagged      BIGINT NOT NULL CHECK (first_flagged IN (0, 1)),
    first_sent_at      BIGINT NOT NULL,
    first_card         TEXT   NOT NULL,
    first_sealed       TEXT   NOT NULL,
    PRIMARY KEY (merchant_id, id)
);

CREATE TABLE later_operations (
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
    CHECK (id <> payment_id),
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
    later_id     BIGINT GENERATED ALWAYS AS (NULLIF(operation_id, payment_id)) STORED, -- NULL for the first attempt's.
    PRIMARY KEY (merchant_id, payment_id, operation_id),
    FOREIGN KEY (merchant_id, payment_id) REFERENCES payments (merchant_id, id) DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY (merchant_id, payment_id, later_id) REFERENCES later_operations (merchant_id, payment_id, id)
        DEFERRABLE INITIALLY DEFERRED,
    CHECK (receivable + payable + fees + tips = 0)
);

-- PostgreSQL plans for an empty table until it has been analysed, and takes any index that begins with the merchant for as good as the key:
-- with all of a merchant's entries in between, it read them all to find one. No other index can be taken by mistake: each is of some rows
-- only, and a query must name them.
CREATE INDEX later_operations_by_id ON later_operations (merchant_id, id) WHERE id <> payment_id;

CREATE INDEX later_operations_due ON later_operations (owner, due_at) WHERE due_at > 0;

CREATE INDEX later_operations_sealed ON later_operations (created_at) WHERE sealed <> '';

CREATE INDEX later_operations_sealed_in_vain ON later_operations (settled_at) WHERE sealed <> '' AND state IN ('declined', 'reversed');

CREATE INDEX payments_by_time ON payments (merchant_id, created_at, id) WHERE created_at > 0;

CREATE INDEX payments_due ON payments (due_at) WHERE due_at > 0;

CREATE INDEX payments_first_due ON payments (first_owner, first_due_at) WHERE first_due_at > 0;

CREATE INDEX payments_first_sealed ON payments (first_created_at) WHERE first_sealed <> '';

CREATE INDEX payments_first_sealed_in_vain ON payments (first_settled_at) WHERE first_sealed <> '' AND first_state IN ('declined', 'reversed');

INSERT INTO payments (merchant_id, id, version, state, protocol, key_scope, key, credential_id, store_id, terminal_id, number_prefix,
number_digits, currency, amount, tip, method, flow, attempt_id, authorize_only, retryable, captured, reserved, refunded, fee, fee_returned,
fee_millionths, fee_fixed, zone, cut_off, failure, failure_text, created_at, modified_at, expires_at, paid_at, business_day, due_at, echo,
reference, first_version, first_kind, first_state, first_number, first_acquirer, first_currency, first_amount, first_failure,
first_failure_text, first_result, first_business_day, first_created_at, first_settled_at, first_due_at, first_owner, first_tries,
first_flagged, first_sent_at, first_card, first_sealed)
SELECT p.merchant_id, p.id, p.version, p.state, p.protocol, p.key_scope, p.key, p.credential_id, p.store_id, p.terminal_id, p.number_prefix,
p.number_digits, p.currency, p.amount, p.tip, p.method, p.flow, p.attempt_id, p.authorize_only, p.retryable, p.captured, p.reserved,
p.refunded, p.fee, p.fee_returned, p.fee_millionths, p.fee_fixed, p.zone, p.cut_off, p.failure, p.failure_text, p.created_at, p.modified_at,
p.expires_at, p.paid_at, p.business_day, p.due_at, p.echo, p.reference, COALESCE(o.version, 0), COALESCE(o.kind, ''), COALESCE(o.state, ''),
COALESCE(o.number, ''), COALESCE(o.acquirer, ''), COALESCE(o.currency, ''), COALESCE(o.amount, 0), COALESCE(o.failure, ''),
COALESCE(o.failure_text, ''), COALESCE(o.result, ''), COALESCE(o.business_day, 0), COALESCE(o.created_at, 0), COALESCE(o.settled_at, 0),
COALESCE(o.due_at, 0), COALESCE(o.owner, 0), COALESCE(o.tries, 0), COALESCE(o.flagged, 0), COALESCE(o.sent_at, 0), COALESCE(o.card, ''),
COALESCE(o.sealed, '')
FROM payments_before_0007 p
LEFT JOIN operations_before_0007 o ON o.merchant_id = p.merchant_id AND o.payment_id = p.id AND o.id = p.id;

INSERT INTO later_operations (merchant_id, payment_id, id, version, kind, state, target_id, key_scope, key, number, round, acquirer,
currency, amount, rest, failure, failure_text, result, business_day, created_at, settled_at, due_at, owner, tries, flagged, echo, sent_at,
card, sealed)
SELECT merchant_id, payment_id, id, version, kind, state, target_id, key_scope, key, number, round, acquirer, currency, amount, rest,
failure, failure_text, result, business_day, created_at, settled_at, due_at, owner, tries, flagged, echo, sent_at, card, sealed
FROM operations_before_0007 WHERE id <> payment_id;

INSERT INTO ledger_entries (merchant_id, payment_id, operation_id, currency, acquirer, business_day, receivable, payable, fees, tips,
posted_at)
SELECT merchant_id, payment_id, operation_id, currency, acquirer, business_day, receivable, payable, fees, tips, posted_at
FROM ledger_entries_before_0007;

DROP TABLE ledger_entries_before_0007;

DROP TABLE operations_before_0007;

DROP TABLE payments_before_0007;

-- To read from only: who writes knows where an operation lives.
CREATE VIEW operations AS
SELECT merchant_id, id AS payment_id, id, first_version AS version, first_kind AS kind, first_state AS state,
CAST(0 AS BIGINT) AS target_id, CAST('' AS TEXT) AS key_scope, CAST('' AS TEXT) AS key, first_number AS number, CAST(0 AS BIGINT) AS round,
first_acquirer AS acquirer, first_currency AS currency, first_amount AS amount, CAST(0 AS BIGINT) AS rest, first_failure AS failure,
first_failure_text AS failure_text, first_result AS result, first_business_day AS business_day, first_created_at AS created_at,
first_settled_at AS settled_at, first_due_at AS due_at, first_owner AS owner, first_tries AS tries, first_flagged AS flagged,
CAST('' AS TEXT) AS echo, first_sent_at AS sent_at, first_card AS card, first_sealed AS sealed
FROM payments WHERE first_kind <> ''
UNION ALL
SELECT merchant_id, payment_id, id, version, kind, state, target_id, key_scope, key, number, round, acquirer, currency, amount, rest,
failure, failure_text, result, business_day, created_at, settled_at, due_at, owner, tries, flagged, echo, sent_at, card, sealed
FROM later_operations;
