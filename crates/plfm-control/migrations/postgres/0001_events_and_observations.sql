-- The log. Nothing in it is changed or removed, and it has no gaps: the triggers refuse whatever else would.
CREATE TABLE events (
    position  BIGINT NOT NULL PRIMARY KEY,
    aggregate TEXT   COLLATE "C" NOT NULL,
    sequence  BIGINT NOT NULL,
    at        BIGINT NOT NULL,
    actor     JSON   NOT NULL,
    kind      TEXT   NOT NULL,
    detail    JSON   NOT NULL,
    UNIQUE (aggregate, sequence)
);

CREATE FUNCTION events_are_never_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are never changed and never removed';
END;
$$;

CREATE TRIGGER events_are_never_changed BEFORE UPDATE OR DELETE ON events
    FOR EACH ROW EXECUTE FUNCTION events_are_never_changed();

CREATE TRIGGER events_are_never_removed BEFORE TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION events_are_never_changed();

CREATE FUNCTION events_are_appended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.position IS DISTINCT FROM (SELECT COALESCE(MAX(position), 0) + 1 FROM events)
        OR NEW.sequence IS DISTINCT FROM
            (SELECT COALESCE(MAX(sequence), 0) + 1 FROM events WHERE aggregate = NEW.aggregate)
    THEN
        RAISE EXCEPTION 'events are appended one after the other';
    END IF;
    RETURN NEW;
END;
$$;

CREATE TRIGGER events_are_appended BEFORE INSERT ON events
    FOR EACH ROW EXECUTE FUNCTION events_are_appended();

CREATE TABLE log_head (
    one      BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    position BIGINT NOT NULL
);
INSERT INTO log_head (one, position) VALUES (1, 0);

CREATE TABLE answers (
    principal   TEXT   COLLATE "C" NOT NULL,
    key_sha256  TEXT   COLLATE "C" NOT NULL,
    body_sha256 TEXT   NOT NULL,
    status      BIGINT NOT NULL,
    body        BYTEA  NOT NULL,
    at          BIGINT NOT NULL,
    PRIMARY KEY (principal, key_sha256)
);
CREATE INDEX answers_by_age ON answers (at);

-- One row for each host that was heard of. `stream` is the run of news whose inventory counts; `streams_dropped` the
-- greatest stream that is not remembered any more. No index but the key, and room in each page: an update of `seen_at`
-- touches no index.
CREATE TABLE hosts (
    host            TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    seen_at         BIGINT NOT NULL,
    agent_version   TEXT   COLLATE "C" NOT NULL,
    generation      BIGINT NOT NULL,
    stream          TEXT,
    streams_dropped TEXT,
    status_at       BIGINT,
    status_wanted   BIGINT NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE host_streams (
    host     TEXT   COLLATE "C" NOT NULL,
    stream   TEXT   COLLATE "C" NOT NULL,
    sequence BIGINT NOT NULL,
    used_at  BIGINT NOT NULL,
    PRIMARY KEY (host, stream)
) WITH (fillfactor = 70);

CREATE TABLE host_status (
    host     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    document TEXT NOT NULL
) WITH (fillfactor = 70);

-- What decides which releases a host could run, apart from the large document.
CREATE TABLE host_platforms (
    host      TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    arch      TEXT COLLATE "C" NOT NULL,
    protocols TEXT COLLATE "C" NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE host_releases (
    host      TEXT   COLLATE "C" NOT NULL,
    release   TEXT   COLLATE "C" NOT NULL,
    state     TEXT   COLLATE "C" NOT NULL,
    instances BIGINT NOT NULL,
    PRIMARY KEY (host, release)
);

-- The sums of host_releases, so that a list need not read all of it.
CREATE TABLE release_totals (
    release         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    hosts_installed BIGINT NOT NULL,
    hosts_current   BIGINT NOT NULL,
    instances       BIGINT NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE boot_outcomes (
    minute         BIGINT NOT NULL,
    release        TEXT   COLLATE "C" NOT NULL,
    host           TEXT   COLLATE "C" NOT NULL,
    outcome        TEXT   COLLATE "C" NOT NULL,
    count          BIGINT NOT NULL,
    ready_ms_total BIGINT NOT NULL,
    ready_ms_max   BIGINT NOT NULL,
    PRIMARY KEY (minute, release, host, outcome)
);

CREATE TABLE boot_totals (
    release        TEXT   COLLATE "C" NOT NULL,
    outcome        TEXT   COLLATE "C" NOT NULL,
    count          BIGINT NOT NULL,
    ready_ms_total BIGINT NOT NULL,
    PRIMARY KEY (release, outcome)
) WITH (fillfactor = 50);

-- Whoever grants a lease holds this row, so that two replicas do not both grant the last one.
CREATE TABLE fetch_gate (one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1));
INSERT INTO fetch_gate (one) VALUES (1);

CREATE TABLE fetch_leases (
    host       TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    granted_at BIGINT NOT NULL,
    until      BIGINT NOT NULL
);
