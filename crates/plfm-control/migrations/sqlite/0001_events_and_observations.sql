-- The log. Nothing in it is changed or removed, and it has no gaps: the triggers refuse whatever else would.
CREATE TABLE events (
    position  INTEGER NOT NULL PRIMARY KEY,
    aggregate TEXT    NOT NULL,
    sequence  INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    actor     TEXT    NOT NULL CHECK (json_valid(actor)),
    kind      TEXT    NOT NULL,
    detail    TEXT    NOT NULL CHECK (json_valid(detail)),
    UNIQUE (aggregate, sequence)
) STRICT;

CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;

CREATE TRIGGER events_are_never_removed BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are never removed'); END;

-- An INSERT OR REPLACE would remove an event without the trigger above.
CREATE TRIGGER events_are_appended BEFORE INSERT ON events
WHEN NEW.position IS NOT (SELECT COALESCE(MAX(position), 0) + 1 FROM events)
  OR NEW.sequence IS NOT (SELECT COALESCE(MAX(sequence), 0) + 1 FROM events WHERE aggregate = NEW.aggregate)
BEGIN SELECT RAISE(ABORT, 'events are appended one after the other'); END;

CREATE TABLE log_head (
    one      INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    position INTEGER NOT NULL
) STRICT;
INSERT INTO log_head (one, position) VALUES (1, 0);

CREATE TABLE answers (
    principal   TEXT    NOT NULL,
    key_sha256  TEXT    NOT NULL,
    body_sha256 TEXT    NOT NULL,
    status      INTEGER NOT NULL,
    body        BLOB    NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (principal, key_sha256)
) STRICT, WITHOUT ROWID;
CREATE INDEX answers_by_age ON answers (at);

-- One row for each host that was heard of. `stream` is the run of news whose inventory counts; `streams_dropped` the
-- greatest stream that is not remembered any more.
CREATE TABLE hosts (
    host            TEXT    NOT NULL PRIMARY KEY,
    seen_at         INTEGER NOT NULL,
    agent_version   TEXT    NOT NULL,
    generation      INTEGER NOT NULL,
    stream          TEXT,
    streams_dropped TEXT,
    status_at       INTEGER,
    status_wanted   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE host_streams (
    host     TEXT    NOT NULL,
    stream   TEXT    NOT NULL,
    sequence INTEGER NOT NULL,
    used_at  INTEGER NOT NULL,
    PRIMARY KEY (host, stream)
) STRICT, WITHOUT ROWID;

CREATE TABLE host_status (
    host     TEXT NOT NULL PRIMARY KEY,
    document TEXT NOT NULL
) STRICT;

-- What decides which releases a host could run, apart from the large document.
CREATE TABLE host_platforms (
    host      TEXT NOT NULL PRIMARY KEY,
    arch      TEXT NOT NULL,
    protocols TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE host_releases (
    host      TEXT    NOT NULL,
    release   TEXT    NOT NULL,
    state     TEXT    NOT NULL,
    instances INTEGER NOT NULL,
    PRIMARY KEY (host, release)
) STRICT, WITHOUT ROWID;

-- The sums of host_releases, so that a list need not read all of it.
CREATE TABLE release_totals (
    release         TEXT NOT NULL PRIMARY KEY,
    hosts_installed INTEGER NOT NULL,
    hosts_current   INTEGER NOT NULL,
    instances       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE boot_outcomes (
    minute         INTEGER NOT NULL,
    release        TEXT    NOT NULL,
    host           TEXT    NOT NULL,
    outcome        TEXT    NOT NULL,
    count          INTEGER NOT NULL,
    ready_ms_total INTEGER NOT NULL,
    ready_ms_max   INTEGER NOT NULL,
    PRIMARY KEY (minute, release, host, outcome)
) STRICT, WITHOUT ROWID;

CREATE TABLE boot_totals (
    release        TEXT    NOT NULL,
    outcome        TEXT    NOT NULL,
    count          INTEGER NOT NULL,
    ready_ms_total INTEGER NOT NULL,
    PRIMARY KEY (release, outcome)
) STRICT, WITHOUT ROWID;

-- Whoever grants a lease holds this row, so that two replicas do not both grant the last one.
CREATE TABLE fetch_gate (one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1)) STRICT;
INSERT INTO fetch_gate (one) VALUES (1);

CREATE TABLE fetch_leases (
    host       TEXT    NOT NULL PRIMARY KEY,
    granted_at INTEGER NOT NULL,
    until      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
