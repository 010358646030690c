-- Made from migrations/ by go test -run Schema -update; read it, do not edit it.

CREATE TABLE activation_codes (
    merchant_id BIGINT NOT NULL REFERENCES merchants (id),
    id          BIGINT NOT NULL,
    store_id    BIGINT NOT NULL,
    protocol    TEXT   NOT NULL,
    app         TEXT   NOT NULL, -- '' for any.
    sealed      TEXT   NOT NULL, -- Hexadecimal; the directory has the hash.
    uses        BIGINT NOT NULL CHECK (uses >= 0), -- 0 for unlimited.
    used        BIGINT NOT NULL CHECK (used >= 0 AND (uses = 0 OR used <= uses)),
    expires_at  BIGINT NOT NULL, -- 0 for never.
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (merchant_id, id),
    FOREIGN KEY (merchant_id, store_id) REFERENCES stores (merchant_id, id)
);

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

CREATE TABLE credentials (
    merchant_id BIGINT NOT NULL REFERENCES merchants (id),
    id          BIGINT NOT NULL,
    protocol    TEXT   NOT NULL,
    secret_hash TEXT   NOT NULL, -- Hexadecimal; the secret itself is not kept.
    store_id    BIGINT NOT NULL, -- 0 for none, as terminal_id.
    terminal_id BIGINT NOT NULL,
    name        TEXT   NOT NULL,
    disabled    BIGINT NOT NULL CHECK (disabled IN (0, 1)),
    profile     TEXT   NOT NULL,
    PRIMARY KEY (merchant_id, id)
);

CREATE TABLE "directory" (
    kind        TEXT   NOT NULL CHECK (kind IN ('merchant', 'terminal', 'credential', 'identity', 'device', 'client', 'code')),
    id          TEXT   NOT NULL,
    merchant_id BIGINT NOT NULL,
    ref         BIGINT NOT NULL, -- The row that the id stands for; 0 for the merchant itself.
    PRIMARY KEY (kind, id)
);

CREATE TABLE id_blocks (
    only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1),
    next     BIGINT NOT NULL CHECK (next > 0 AND next <= 1000000000000)
);

CREATE TABLE identities (
    merchant_id   BIGINT NOT NULL REFERENCES merchants (id),
    id            BIGINT NOT NULL,
    terminal_id   BIGINT NOT NULL,
    protocol      TEXT   NOT NULL,
    number        TEXT   NOT NULL,
    vendor        TEXT   NOT NULL, -- '' for none, as whatever the device does not tell of itself.
    maker         TEXT   NOT NULL,
    serial        TEXT   NOT NULL,
    model         TEXT   NOT NULL,
    device_id     TEXT   NOT NULL,
    client_number TEXT   NOT NULL,
    name          TEXT   NOT NULL,
    os            TEXT   NOT NULL,
    sdk           TEXT   NOT NULL,
    app           TEXT   NOT NULL,
    disabled      BIGINT NOT NULL CHECK (disabled IN (0, 1)),
    created_at    BIGINT NOT NULL,
    key           TEXT   NOT NULL, -- Hexadecimal, sealed; '' for none, as the last key.
    key_at        BIGINT NOT NULL,
    last_key      TEXT   NOT NULL,
    last_key_at   BIGINT NOT NULL,
    PRIMARY KEY (merchant_id, id),
    FOREIGN KEY (merchant_id, terminal_id) REFERENCES terminals (merchant_id, id)
);

CREATE TABLE incarnations (
    id          BIGINT NOT NULL PRIMARY KEY,
    alive_until BIGINT NOT NULL
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

CREATE INDEX later_operations_by_id ON later_operations (merchant_id, id) WHERE id <> payment_id;

CREATE INDEX later_operations_due ON later_operations (owner, due_at) WHERE due_at > 0;

CREATE INDEX later_operations_sealed ON later_operations (created_at) WHERE sealed <> '';

CREATE INDEX later_operations_sealed_in_vain ON later_operations (settled_at) WHERE sealed <> '' AND state IN ('declined', 'reversed');

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

CREATE TABLE merchants (
    id           BIGINT NOT NULL PRIMARY KEY,
    public_id    TEXT   NOT NULL,
    company_name TEXT   NOT NULL,
    name         TEXT   NOT NULL,
    disabled     BIGINT NOT NULL CHECK (disabled IN (0, 1)),
    currencies   TEXT   NOT NULL -- Upper-case codes with commas between.
);

CREATE TABLE methods (
    merchant_id    BIGINT NOT NULL REFERENCES merchants (id),
    method         TEXT   NOT NULL,
    acquirer       TEXT   NOT NULL,
    fee_millionths BIGINT NOT NULL CHECK (fee_millionths >= 0),
    fee_fixed      BIGINT NOT NULL CHECK (fee_fixed >= 0),
    PRIMARY KEY (merchant_id, method)
);

CREATE TABLE newest_tokens (
    merchant_id   BIGINT NOT NULL,
    credential_id BIGINT NOT NULL,
    token_id      TEXT   NOT NULL, -- Of the token, which is not kept.
    PRIMARY KEY (merchant_id, credential_id)
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
    settled_at  BIGINT NOT NULL, host TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (merchant_id, id)
);

CREATE INDEX notices_due ON notices (host, due_at) WHERE due_at > 0;

CREATE INDEX notices_settled ON notices (settled_at) WHERE settled_at > 0;

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

CREATE TABLE payment_keys (
    merchant_id  BIGINT NOT NULL,
    scope        TEXT   NOT NULL,
    key          TEXT   NOT NULL,
    mac          TEXT   NOT NULL, -- Hexadecimal; '' for a key closed in advance.
    payment_id   BIGINT NOT NULL,
    operation_id BIGINT NOT NULL,
    closed_to    BIGINT NOT NULL, free_at BIGINT NOT NULL DEFAULT 0, answer  TEXT   NOT NULL DEFAULT '',
    PRIMARY KEY (merchant_id, scope, key)
);

CREATE INDEX payment_keys_closed ON payment_keys (closed_to) WHERE closed_to > 0;

CREATE INDEX payment_keys_free ON payment_keys (free_at) WHERE free_at > 0;

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
    first_sealed       TEXT   NOT NULL, first_term BIGINT NOT NULL DEFAULT 0, first_free_at BIGINT NOT NULL DEFAULT 0, first_held_at BIGINT NOT NULL DEFAULT 0, first_vain_at BIGINT NOT NULL DEFAULT 0
    CHECK (first_due_at = 0 OR first_term + first_free_at + first_held_at > 0),
    PRIMARY KEY (merchant_id, id)
);

CREATE INDEX payments_by_time ON payments (merchant_id, created_at, id) WHERE created_at > 0;

CREATE INDEX payments_due ON payments (due_at) WHERE due_at > 0;

CREATE INDEX payments_first_free_due ON payments (first_free_at) WHERE first_free_at > 0;

CREATE INDEX payments_first_held_due ON payments (first_held_at) WHERE first_held_at > 0;

CREATE INDEX payments_first_sealed ON payments (first_created_at) WHERE first_sealed <> '';

CREATE INDEX payments_first_sealed_in_vain ON payments (first_vain_at) WHERE first_vain_at > 0;

CREATE INDEX payments_first_term ON payments (first_term) WHERE first_term > 0;

CREATE TABLE pin_keys (
    merchant_id BIGINT NOT NULL,
    identity_id BIGINT NOT NULL,
    id          BIGINT NOT NULL, -- In the order in which they were made.
    sealed      TEXT   NOT NULL, -- Hexadecimal.
    expires_at  BIGINT NOT NULL CHECK (expires_at > 0),
    PRIMARY KEY (merchant_id, identity_id, id),
    FOREIGN KEY (merchant_id, identity_id) REFERENCES identities (merchant_id, id)
);

CREATE INDEX pin_keys_expired ON pin_keys (expires_at);

CREATE TABLE settings (
    merchant_id BIGINT NOT NULL REFERENCES merchants (id),
    protocol    TEXT   NOT NULL,
    value       TEXT   NOT NULL, -- JSON.
    PRIMARY KEY (merchant_id, protocol)
);

CREATE TABLE stores (
    merchant_id BIGINT NOT NULL REFERENCES merchants (id),
    id          BIGINT NOT NULL,
    public_id   TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    zone        TEXT   NOT NULL,
    cut_off     BIGINT NOT NULL CHECK (cut_off >= 0 AND cut_off < 86400000), -- Milliseconds after midnight.
    disabled    BIGINT NOT NULL CHECK (disabled IN (0, 1)),
    PRIMARY KEY (merchant_id, id),
    UNIQUE (merchant_id, public_id)
);

CREATE TABLE terminal_numbers (
    protocol TEXT   NOT NULL PRIMARY KEY,
    next     BIGINT NOT NULL
);

CREATE TABLE terminals (
    merchant_id BIGINT NOT NULL REFERENCES merchants (id),
    id          BIGINT NOT NULL,
    store_id    BIGINT NOT NULL,
    public_id   TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    disabled    BIGINT NOT NULL CHECK (disabled IN (0, 1)),
    PRIMARY KEY (merchant_id, id),
    FOREIGN KEY (merchant_id, store_id) REFERENCES stores (merchant_id, id)
);

CREATE TABLE terms (
    id          BIGINT NOT NULL PRIMARY KEY,
    incarnation BIGINT NOT NULL
);

CREATE TABLE vendors (
    number TEXT NOT NULL PRIMARY KEY,
    name   TEXT NOT NULL,
    sealed TEXT NOT NULL, -- Hexadecimal; its key.
    apps   TEXT NOT NULL  -- With commas between.
);

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
