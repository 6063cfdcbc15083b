-- The ledger.  A file that was released is never changed: what comes later is a migration of its own.

-- The names of streams, as dense integers: in the index of a long log they cost a quarter of what texts do.
CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- The log.  `recorded_at` is in microseconds since 1970-01-01T00:00:00Z; `hash` covers the row and the hash before it.
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL REFERENCES streams (id),
    type TEXT NOT NULL,
    version INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    causation TEXT NOT NULL,
    correlation TEXT NOT NULL,
    actor TEXT NOT NULL,
    data TEXT NOT NULL,
    hash BLOB NOT NULL
) STRICT;

-- The log by stream; every further index would cost each append a third.
CREATE INDEX events_by_stream ON events (stream);

-- The end of the log: the next position comes from here, inside the write lock, and so there is never a gap.
CREATE TABLE head (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    ledger_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT;

-- Who may append.  `owner` is NULL while nobody may; `epoch` only ever grows.
CREATE TABLE lease (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    owner TEXT,
    epoch INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

INSERT INTO lease VALUES (1, NULL, 0, 0);

-- What other processes ask of the engine, and what it answered (`answered_at` is NULL until then).
CREATE TABLE inbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    data TEXT NOT NULL CHECK (json_valid(data)),
    actor TEXT NOT NULL,
    reason TEXT,
    submitted_at INTEGER NOT NULL,
    accepted INTEGER,
    code TEXT,
    message TEXT,
    position INTEGER,
    answered_at INTEGER
) STRICT;

CREATE INDEX inbox_pending ON inbox (number) WHERE answered_at IS NULL;

-- What happened stays.  REPLACE would delete a row without a delete trigger, so a position that is taken is refused too.
CREATE TRIGGER events_are_not_updated BEFORE UPDATE ON events
BEGIN
    SELECT RAISE(ABORT, 'an event that happened is never updated');
END;

CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events
BEGIN
    SELECT RAISE(ABORT, 'an event that happened is never deleted');
END;

CREATE TRIGGER events_are_not_replaced BEFORE INSERT ON events
WHEN EXISTS (SELECT 1 FROM events WHERE position = NEW.position)
BEGIN
    SELECT RAISE(ABORT, 'an event that happened is never replaced');
END;

CREATE TRIGGER head_goes_forward BEFORE UPDATE ON head
WHEN NEW.position < OLD.position OR NEW.ledger_id <> OLD.ledger_id
BEGIN
    SELECT RAISE(ABORT, 'the head of the ledger only goes forward');
END;

CREATE TRIGGER head_stays BEFORE DELETE ON head
BEGIN
    SELECT RAISE(ABORT, 'the head of the ledger is never deleted');
END;

CREATE TRIGGER streams_are_not_updated BEFORE UPDATE ON streams
BEGIN
    SELECT RAISE(ABORT, 'a stream is never renamed');
END;

CREATE TRIGGER streams_are_not_deleted BEFORE DELETE ON streams
BEGIN
    SELECT RAISE(ABORT, 'a stream is never deleted');
END;
