-- On PostgreSQL, a first attempt in the hands of a living process is in no index of what is due: it makes new entries in all indexes of a table
-- when an indexed column of a row changes, so the answer to an attempt must change none. Until then it is found by its term, which never changes.
-- A program from before this does not know terms, and cannot store an attempt in hand any more.

-- +goose Up

CREATE TABLE terms (
    id          BIGINT NOT NULL PRIMARY KEY,
    incarnation BIGINT NOT NULL
);

-- In which the payment was stored; 0 for one that was stored without an attempt in hand, and where one process has the database to itself.
ALTER TABLE payments ADD COLUMN first_term BIGINT NOT NULL DEFAULT 0;

-- first_due_at of an attempt that nobody has in hand, else 0.
ALTER TABLE payments ADD COLUMN first_free_at BIGINT NOT NULL DEFAULT 0;

-- first_due_at of one that somebody has in hand; 0 as long as only its term tells of it.
ALTER TABLE payments ADD COLUMN first_held_at BIGINT NOT NULL DEFAULT 0;

UPDATE payments SET first_free_at = first_due_at WHERE first_due_at > 0 AND first_owner = 0;

UPDATE payments SET first_held_at = first_due_at WHERE first_due_at > 0 AND first_owner > 0;

-- first_settled_at of one that took no money and has a sealed card number, else 0.
ALTER TABLE payments ADD COLUMN first_vain_at BIGINT NOT NULL DEFAULT 0
    CHECK (first_due_at = 0 OR first_term + first_free_at + first_held_at > 0); -- Whatever is due is found.

UPDATE payments SET first_vain_at = first_settled_at WHERE first_sealed <> '' AND first_state IN ('declined', 'reversed');

DROP INDEX payments_first_due;

DROP INDEX payments_first_sealed_in_vain;

CREATE INDEX payments_first_free_due ON payments (first_free_at) WHERE first_free_at > 0;

CREATE INDEX payments_first_held_due ON payments (first_held_at) WHERE first_held_at > 0;

CREATE INDEX payments_first_sealed_in_vain ON payments (first_vain_at) WHERE first_vain_at > 0;

CREATE INDEX payments_first_term ON payments (first_term) WHERE first_term > 0;
