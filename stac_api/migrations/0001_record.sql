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
    etag text
);

-- Runs that have not ended: reconciliation is armed while there are any.
CREATE TABLE mlops.open_runs (
    collection text NOT NULL,
    item text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
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

-- The links of an item's place, as the record stores them with its own items: U+E000 stands for
-- the root of the API.
CREATE FUNCTION mlops.linked(item jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT item || jsonb_build_object('links', jsonb_build_array(
        jsonb_build_object('rel', 'self', 'type', 'application/geo+json',
            'href', home || '/items/' || (item->>'id')),
        jsonb_build_object('rel', 'root', 'type', 'application/json', 'href', U&'\E000'),
        jsonb_build_object('rel', 'parent', 'type', 'application/json', 'href', home),
        jsonb_build_object('rel', 'collection', 'type', 'application/json', 'href', home)
    ) || coalesce((
        SELECT jsonb_agg(link) FROM jsonb_array_elements(item->'links') link
        WHERE link->>'rel' NOT IN ('self', 'root', 'parent', 'collection')
    ), '[]'))
    FROM (SELECT U&'\E000collections/' || (item->>'collection') AS home) place
$$;

-- An item as it was written. pgstac keeps only what differs from its collection's base item, and
-- drops nulls when it puts the two together again. The record stores its items whole instead,
-- which shows by their stac_version; what other tools loaded is hydrated as pgstac does it.
CREATE FUNCTION mlops.document(i pgstac.items) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN i.content ? 'stac_version' THEN
        jsonb_build_object(
            'type', 'Feature', 'id', i.id, 'collection', i.collection,
            'geometry', public.ST_AsGeoJSON(i.geometry, 20)::jsonb
        ) || (i.content - 'pgstac:base_item')
    ELSE mlops.linked(pgstac.content_hydrate(i)) END
$$;

-- The same as text, put together from the database's own text of each part: nothing is merged.
CREATE FUNCTION mlops.document_text(i pgstac.items) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN i.content ? 'stac_version' THEN
        '{"type":"Feature","id":' || to_json(i.id)::text
        || ',"collection":' || to_json(i.collection)::text
        || ',"geometry":' || public.ST_AsGeoJSON(i.geometry, 20)
        || ',' || substr(i.content::text, 2)
    ELSE mlops.document(i)::text END
$$;

-- The row that a document is stored as; the reverse of mlops.document.
CREATE FUNCTION mlops.row_of(document jsonb) RETURNS pgstac.items
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pgstac, public AS $$
    SELECT ROW(
        document->>'id', stac_geom(document), document->>'collection',
        stac_datetime(document), stac_end_datetime(document),
        document - '{id,geometry,collection,type,pgstac:base_item}'::text[], NULL
    )::pgstac.items
$$;

-- Fields that a workspace's collections are indexed by, as paths below the properties.
CREATE TABLE mlops.indexed_fields (
    kind text NOT NULL,
    path text NOT NULL,
    PRIMARY KEY (kind, path)
);
INSERT INTO mlops.indexed_fields (kind, path)
SELECT kind, field FROM (VALUES
    ('training-run', ARRAY[
        'mlops:model', 'mlops:status', 'mlops:recipe', 'mlops:progress', 'mlops:objective_value',
        'created', 'mlops:metrics/val_loss', 'mlops:metrics/val_accuracy',
        'mlops:metrics/val_balanced_accuracy', 'mlops:metrics/val_f1',
        'mlops:metrics/val_macro_f1', 'mlops:metrics/test_accuracy',
        'mlops:metrics/test_balanced_accuracy', 'mlops:metrics/test_macro_f1']),
    ('model', ARRAY['mlops:model', 'mlops:run', 'created', 'mlops:metrics/val_f1',
        'mlops:metrics/val_macro_f1', 'mlops:metrics/test_balanced_accuracy',
        'mlops:metrics/test_macro_f1']),
    ('training-data', ARRAY['mlops:dataset', 'created'])
) AS kinds(kind, fields), unnest(fields) AS field;

-- An item's strong ETag, without its quotes: over all that is stored of it.
CREATE FUNCTION mlops.etag(i pgstac.items) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT md5(i.content::text || md5(public.ST_AsBinary(i.geometry)))
$$;

CREATE FUNCTION mlops.etag(c pgstac.collections) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT md5(c.content::text)
$$;

-- A JSON value as a number or as a time, or NULL when it is none: a filter never fails on a value.
CREATE FUNCTION mlops.number(value jsonb) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE jsonb_typeof(value) WHEN 'number' THEN value::numeric END
$$;

CREATE FUNCTION mlops.instant(value jsonb) RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RETURN (value #>> '{}')::timestamptz;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END;
$$;

CREATE FUNCTION mlops.calculate(a numeric, operator text, b numeric) RETURNS numeric
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN CASE operator
        WHEN '+' THEN a + b WHEN '-' THEN a - b WHEN '*' THEN a * b
        WHEN '/' THEN a / b WHEN '%' THEN a % b WHEN '^' THEN a ^ b END;
EXCEPTION WHEN data_exception THEN
    RETURN NULL; -- divided by zero, or too large a number
END;
$$;

-- What free text searches; the same words as pgstac's own search.
CREATE FUNCTION mlops.words(i pgstac.items) RETURNS tsvector
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT to_tsvector('english', coalesce(i.content->'properties'->>'description', ''))
        || to_tsvector('english', coalesce(i.content->'properties'->>'title', ''))
        || to_tsvector('english', coalesce(i.content->'properties'->>'keywords', ''))
$$;

-- Indexes of a workspace's collection: what its items are filtered and sorted by. One on a JSON
-- value serves equality, ranges and both directions of a sort.
CREATE FUNCTION mlops.index_collection(collection_id text, kind text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = mlops, pgstac, public AS $$
DECLARE
    partition text;
    path text[];
BEGIN
    SELECT format('_items_%s', key) INTO STRICT partition
        FROM pgstac.collections WHERE id = collection_id;
    FOR path IN
        SELECT string_to_array(fields.path, '/') FROM mlops.indexed_fields fields
        WHERE fields.kind = index_collection.kind
    LOOP
        EXECUTE format(
            'CREATE INDEX IF NOT EXISTS %I ON pgstac.%I ((content->''properties''%s))',
            left(format('%s_%s', partition, md5(array_to_string(path, '/'))), 63),
            partition,
            (SELECT string_agg(format('->%L', step), '' ORDER BY n)
                FROM unnest(path) WITH ORDINALITY AS steps(step, n))
        );
    END LOOP;
END;
$$;

-- The type of the event that a change is, or NULL for a change that is none.
CREATE FUNCTION mlops.event_type(kind text, wants_events boolean, before jsonb, after jsonb)
RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF kind = 'training-run' AND after IS NOT NULL THEN
        IF before IS NULL
            OR before->>'mlops:status' IS DISTINCT FROM after->>'mlops:status'
        THEN
            RETURN 'run.' || coalesce(after->>'mlops:status', 'accepted');
        END IF;
    ELSIF kind IN ('model', 'training-data') AND after IS NOT NULL THEN
        IF before IS NULL THEN
            RETURN kind || '.created';
        ELSIF after->>'mlops:published' = 'true'
            AND before->>'mlops:published' IS DISTINCT FROM 'true'
        THEN
            RETURN kind || '.published';
        END IF;
    END IF;
    IF wants_events THEN
        RETURN CASE WHEN before IS NULL THEN 'item.created'
                    WHEN after IS NULL THEN 'item.deleted'
                    ELSE 'item.updated' END;
    END IF;
    RETURN NULL;
END;
$$;

-- Runs in the writer's transaction, so every writer is covered and a rolled-back change leaves
-- nothing. SECURITY DEFINER: a writer needs rights on pgstac only.
CREATE FUNCTION mlops.record_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = mlops, pgstac, public AS $$
DECLARE
    changed pgstac.items;
    before jsonb;
    after jsonb;
    in_workspace text;
    kind text;
    wants_events boolean;
    type text;
BEGIN
    IF TG_OP = 'DELETE' THEN changed := OLD; ELSE changed := NEW; END IF;
    SELECT content->>'mlops:workspace', content->>'mlops:kind',
           coalesce(content->>'mlops:events' = 'true', false)
        INTO in_workspace, kind, wants_events
        FROM pgstac.collections WHERE id = changed.collection;
    IF TG_OP <> 'INSERT' THEN before := OLD.content->'properties'; END IF;
    IF TG_OP <> 'DELETE' THEN after := NEW.content->'properties'; END IF;

    IF kind = 'training-run' THEN
        IF after->>'mlops:status' IN ('accepted', 'running') THEN
            INSERT INTO open_runs (collection, item) VALUES (changed.collection, changed.id)
                ON CONFLICT DO NOTHING;
        ELSE
            DELETE FROM open_runs o WHERE o.collection = changed.collection AND o.item = changed.id;
        END IF;
    END IF;

    IF TG_OP = 'INSERT' AND wants_events THEN
        -- pgstac's update_item and upsert are a DELETE and an INSERT: one change, one event.
        UPDATE outbox SET detail_type = 'item.updated', etag = mlops.etag(NEW)
            WHERE transaction = pg_current_xact_id() AND detail_type = 'item.deleted'
              AND collection = NEW.collection AND item = NEW.id;
        IF FOUND THEN RETURN NULL; END IF;
    END IF;

    type := event_type(kind, wants_events, before, after);
    IF type IS NOT NULL THEN
        INSERT INTO outbox (detail_type, workspace, collection, item, attempt, etag)
        VALUES (
            type, in_workspace, changed.collection, changed.id,
            (coalesce(after, before)->>'mlops:attempt')::int,
            CASE WHEN TG_OP = 'DELETE' THEN NULL ELSE mlops.etag(NEW) END
        );
        PERFORM pg_notify('mlops_outbox', '');
    END IF;
    RETURN NULL;
END;
$$;

CREATE TRIGGER mlops_record_change
    AFTER INSERT OR UPDATE OR DELETE ON pgstac.items
    FOR EACH ROW EXECUTE FUNCTION mlops.record_change();
