-- Boots as they were reported: what a rollout is judged by. Rows are only added; those from long before the rollout under way
-- are removed. Transactions end in another order than their rows are numbered in, so a row has its transaction's id: those
-- below the snapshot's smallest running one are all there.
CREATE TABLE boot_reports (
    tx      BIGINT NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    number  BIGINT GENERATED ALWAYS AS IDENTITY,
    minute  BIGINT NOT NULL,
    release TEXT   COLLATE "C" NOT NULL,
    host    TEXT   COLLATE "C" NOT NULL,
    outcome TEXT   COLLATE "C" NOT NULL,
    bucket  BIGINT NOT NULL,
    count   BIGINT NOT NULL,
    PRIMARY KEY (tx, number)
);

-- Who decides about rollouts, until when, and what it saw last.
CREATE TABLE rollout_desk (
    one     BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    holder  TEXT   COLLATE "C" NOT NULL,
    until   BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    view    TEXT   NOT NULL
) WITH (fillfactor = 50);
INSERT INTO rollout_desk (one, holder, until, seen_at, view) VALUES (1, '', 0, 0, '');

-- The last event that the webhook was told of, or that was given up.
CREATE TABLE webhook_cursor (
    one      BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    position BIGINT NOT NULL
);
