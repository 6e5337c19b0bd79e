-- The record's own tables, beside pgstac in the same database.

CREATE SCHEMA mlops;

CREATE TABLE mlops.workspaces (
    id text PRIMARY KEY,
    title text NOT NULL,
    description text NOT NULL,
    visibility text NOT NULL CHECK (visibility IN ('private', 'public')),
    created timestamptz NOT NULL DEFAULT now()
);

-- Versions that were given out. A number is never given twice, also after its item was deleted:
-- the row stays, with its origin forgotten, so that the same origin may make a new version.
CREATE TABLE mlops.versions (
    collection text NOT NULL,
    name text NOT NULL,
    version int NOT NULL CHECK (version > 0),
    item text NOT NULL,
    origin text, -- what made it: the run of a model, the manifest digest of a dataset version
    PRIMARY KEY (collection, name, version),
    UNIQUE (collection, name, origin)
);

CREATE TABLE mlops.outbox (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    time timestamptz NOT NULL DEFAULT clock_timestamp(),
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    detail_type text NOT NULL,
    workspace text,
    collection text NOT NULL,
    item text NOT NULL,
    attempt int,
    etag text,
    -- Of the request that made the change: a writer says it with set_config('mlops.request_id', ...,
    -- true); one that does not leaves none.
    request_id text DEFAULT nullif(current_setting('mlops.request_id', true), '')
);

-- Runs that have not ended: reconciliation is armed while there are any.
CREATE TABLE mlops.open_runs (
    collection text NOT NULL,
    item text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (collection, item)
);

-- Runs that were deleted. Jobs, their tokens and models are known by the id of their run: another run
-- of the same id would get what belongs to the former.
CREATE TABLE mlops.former_runs (
    collection text NOT NULL,
    item text NOT NULL,
    PRIMARY KEY (collection, item)
);

CREATE TABLE mlops.heartbeats (
    collection text NOT NULL,
    item text NOT NULL,
    attempt int NOT NULL,
    seen timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (collection, item)
);

CREATE TABLE mlops.metric_batches (
    collection text NOT NULL,
    item text NOT NULL,
    batch text NOT NULL,
    PRIMARY KEY (collection, item, batch)
);

CREATE TABLE mlops.metrics (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    collection text NOT NULL,
    item text NOT NULL,
    attempt int NOT NULL,
    name text NOT NULL,
    step bigint NOT NULL,
    time timestamptz NOT NULL,
    value double precision NOT NULL
);
CREATE INDEX metrics_of_run ON mlops.metrics (collection, item, seq);

CREATE TABLE mlops.log_chunks (
    collection text NOT NULL,
    item text NOT NULL,
    attempt int NOT NULL,
    start bigint NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (collection, item, attempt, start)
);

-- Items that were deleted in a transaction that may put them back: pgstac's update_item and upsert
-- are a DELETE and an INSERT. Rows of ended transactions mean nothing and go with the next delete.
CREATE UNLOGGED TABLE mlops.replaced (
    transaction xid8 NOT NULL,
    collection text NOT NULL,
    item text NOT NULL,
    before jsonb NOT NULL,
    etag text NOT NULL,
    event bigint, -- the event that told of the deletion
    PRIMARY KEY (transaction, collection, item)
);
