-- Boots as they were reported, in the order of the reports: what a rollout is judged by. Rows are only added; those from long
-- before the rollout under way are removed. A number is never used again, so that whoever reads on misses none.
CREATE TABLE boot_reports (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    minute  INTEGER NOT NULL,
    release TEXT    NOT NULL,
    host    TEXT    NOT NULL,
    outcome TEXT    NOT NULL,
    bucket  INTEGER NOT NULL,
    count   INTEGER NOT NULL
) STRICT;

-- Who decides about rollouts, until when, and what it saw last.
CREATE TABLE rollout_desk (
    one     INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    holder  TEXT    NOT NULL,
    until   INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    view    TEXT    NOT NULL
) STRICT;
INSERT INTO rollout_desk (one, holder, until, seen_at, view) VALUES (1, '', 0, 0, '');

-- The last event that the webhook was told of, or that was given up.
CREATE TABLE webhook_cursor (
    one      INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    position INTEGER NOT NULL
) STRICT;
