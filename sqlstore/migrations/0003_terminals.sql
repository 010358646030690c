-- The registry of terminals: what each protocol calls a terminal, its keys, activation codes, vendors and settings; whom notices go to; and
-- what finds the rows that nothing needs any more.

-- +goose Up

-- The directory learns more kinds. SQLite cannot change a CHECK, so the table is made anew. TIDs of kind terminal are those that operators
-- give; the numbers of a protocol's own are identities, as protocol:number.
CREATE TABLE directory_of_0003 (
    kind        TEXT   NOT NULL CHECK (kind IN ('merchant', 'terminal', 'credential', 'identity', 'device', 'client', 'code')),
    id          TEXT   NOT NULL,
    merchant_id BIGINT NOT NULL,
    ref         BIGINT NOT NULL, -- The row that the id stands for; 0 for the merchant itself.
    PRIMARY KEY (kind, id)
);

INSERT INTO directory_of_0003 (kind, id, merchant_id, ref) SELECT kind, id, merchant_id, ref FROM directory;

DROP TABLE directory;

ALTER TABLE directory_of_0003 RENAME TO directory;

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

-- Software makers. They are not below a merchant.
CREATE TABLE vendors (
    number TEXT NOT NULL PRIMARY KEY,
    name   TEXT NOT NULL,
    sealed TEXT NOT NULL, -- Hexadecimal; its key.
    apps   TEXT NOT NULL  -- With commas between.
);

CREATE TABLE settings (
    merchant_id BIGINT NOT NULL REFERENCES merchants (id),
    protocol    TEXT   NOT NULL,
    value       TEXT   NOT NULL, -- JSON.
    PRIMARY KEY (merchant_id, protocol)
);

-- The next number of each protocol whose terminals are counted.
CREATE TABLE terminal_numbers (
    protocol TEXT   NOT NULL PRIMARY KEY,
    next     BIGINT NOT NULL
);

-- Notices are sent host by host, so that a dead one holds up no other.
ALTER TABLE notices ADD COLUMN host TEXT NOT NULL DEFAULT '';

DROP INDEX notices_due;

CREATE INDEX notices_due ON notices (host, due_at) WHERE due_at > 0;

CREATE INDEX notices_settled ON notices (settled_at) WHERE settled_at > 0;

-- What nothing needs any more is found by these.
CREATE INDEX operations_sealed_in_vain ON operations (settled_at) WHERE sealed <> '' AND state IN ('declined', 'reversed');

CREATE INDEX payment_keys_free ON payment_keys (free_at) WHERE free_at > 0;

CREATE INDEX payment_keys_closed ON payment_keys (closed_to) WHERE closed_to > 0;
