-- Exactly one event for each committed change, whoever writes it and however.

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

CREATE FUNCTION mlops.add_event(
    type text, in_workspace text, changed pgstac.items, properties jsonb, etag text
) RETURNS bigint
LANGUAGE sql SET search_path = mlops, pgstac, public AS $$
    SELECT pg_notify('mlops_outbox', '');
    INSERT INTO outbox (detail_type, workspace, collection, item, attempt, etag)
    VALUES (
        type, in_workspace, changed.collection, changed.id,
        -- Anybody's items may have a property of that name.
        CASE WHEN mlops.number(properties->'mlops:attempt') BETWEEN 1 AND 2147483647
            THEN (properties->>'mlops:attempt')::numeric::int END,
        etag
    )
    RETURNING seq;
$$;

-- Runs in the writer's transaction, so every writer is covered and a rolled-back change leaves
-- nothing. SECURITY DEFINER: a writer needs rights on pgstac only.
-- Every look-up is by a key: a plan that was made while a table was empty must not scan it when a
-- transaction of many has filled it.
CREATE FUNCTION mlops.record_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = mlops, pgstac, public SET enable_seqscan = off AS $$
DECLARE
    changed pgstac.items;
    before jsonb;
    after jsonb;
    in_workspace text;
    kind text;
    wants_events boolean;
    type text;
    told bigint;
    was replaced;
BEGIN
    -- pgstac splits a collection's table, or puts it together, by way of one of this name: nothing is
    -- changed by that.
    IF TG_OP = 'INSERT' AND to_regclass('pg_temp.changepartitionstaging') IS NOT NULL THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'DELETE' THEN changed := OLD; ELSE changed := NEW; END IF;
    SELECT content->>'mlops:workspace', content->>'mlops:kind',
           coalesce(content->>'mlops:events' = 'true', false)
        INTO in_workspace, kind, wants_events
        FROM pgstac.collections WHERE id = changed.collection;
    IF kind IS NULL AND NOT coalesce(wants_events, false) THEN
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN before := OLD.content->'properties'; END IF;
    IF TG_OP <> 'DELETE' THEN after := NEW.content->'properties'; END IF;

    IF kind = 'training-run'
        AND before->'mlops:status' IS DISTINCT FROM after->'mlops:status'
    THEN
        IF after->>'mlops:status' IN ('accepted', 'running') THEN
            INSERT INTO open_runs (collection, item) VALUES (changed.collection, changed.id)
                ON CONFLICT DO NOTHING;
        ELSE
            DELETE FROM open_runs o WHERE o.collection = changed.collection AND o.item = changed.id;
        END IF;
    END IF;

    -- 1 and 1.0 are equal, but not the same to a reader: only the ETag knows.
    IF TG_OP = 'UPDATE' AND NEW.content = OLD.content AND mlops.etag(NEW) = mlops.etag(OLD) THEN
        RETURN NULL;
    ELSIF TG_OP = 'INSERT' THEN
        DELETE FROM replaced r
            WHERE r.transaction = pg_current_xact_id()
              AND r.collection = NEW.collection AND r.item = NEW.id
            RETURNING * INTO was;
        IF FOUND THEN
            DELETE FROM outbox WHERE seq = was.event;
            DELETE FROM former_runs f WHERE f.collection = NEW.collection AND f.item = NEW.id;
            IF was.etag = mlops.etag(NEW) THEN RETURN NULL; END IF;
            before := was.before;
        ELSIF kind = 'training-run' AND EXISTS (
            SELECT FROM former_runs f WHERE f.collection = NEW.collection AND f.item = NEW.id)
        THEN
            RAISE unique_violation USING MESSAGE = format(
                'Run %s was deleted, and its id is not given again: leave the id out, or choose another.',
                NEW.id);
        END IF;
    END IF;

    type := event_type(kind, wants_events, before, after);
    IF type IS NOT NULL THEN
        told := add_event(type, in_workspace, changed, coalesce(after, before),
            CASE WHEN TG_OP <> 'DELETE' THEN mlops.etag(changed) END);
    END IF;
    IF TG_OP = 'DELETE' THEN
        IF kind = 'training-run' THEN
            INSERT INTO former_runs VALUES (OLD.collection, OLD.id) ON CONFLICT DO NOTHING;
        END IF;
        -- Once in a transaction: each look goes through all that vacuum has not taken away yet.
        IF NOT EXISTS (SELECT FROM replaced WHERE transaction = pg_current_xact_id()) THEN
            DELETE FROM replaced WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM replaced WHERE transaction <> pg_current_xact_id()
                FOR UPDATE SKIP LOCKED));
        END IF;
        INSERT INTO replaced
        VALUES (pg_current_xact_id(), OLD.collection, OLD.id, before, mlops.etag(OLD), told)
            ON CONFLICT (transaction, collection, item) DO UPDATE
            SET before = EXCLUDED.before, etag = EXCLUDED.etag, event = EXCLUDED.event;
    END IF;
    RETURN NULL;
END;
$$;

CREATE TRIGGER mlops_record_change
    AFTER INSERT OR UPDATE OR DELETE ON pgstac.items
    FOR EACH ROW EXECUTE FUNCTION mlops.record_change();

-- pgstac drops the table that a collection's items lie in, which no trigger of theirs sees.
CREATE FUNCTION mlops.record_collection_deletion() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = mlops, pgstac, public AS $$
BEGIN
    IF to_regclass(format('pgstac._items_%s', OLD.key)) IS NULL THEN
        RETURN OLD;
    END IF;
    -- Whoever writes an item now is done before, or finds no collection after. Who reads holds
    -- pgstac.items and then asks for this table, which is dropped in that order too: to keep
    -- readers out here already would be the other way round.
    EXECUTE format('LOCK TABLE pgstac._items_%s IN EXCLUSIVE MODE', OLD.key);
    IF OLD.content->>'mlops:events' = 'true' THEN
        PERFORM add_event(
            'item.deleted', OLD.content->>'mlops:workspace', i, i.content->'properties', NULL)
        FROM (SELECT * FROM pgstac.items WHERE collection = OLD.id ORDER BY id) i;
    END IF;
    DELETE FROM open_runs WHERE collection = OLD.id;
    DELETE FROM heartbeats WHERE collection = OLD.id;
    DELETE FROM metrics WHERE collection = OLD.id;
    DELETE FROM metric_batches WHERE collection = OLD.id;
    DELETE FROM log_chunks WHERE collection = OLD.id;
    UPDATE versions SET origin = NULL WHERE collection = OLD.id;
    RETURN OLD;
END;
$$;

-- By its name before pgstac's own trigger, which drops the table.
CREATE TRIGGER a_mlops_record_deletion
    BEFORE DELETE ON pgstac.collections
    FOR EACH ROW EXECUTE FUNCTION mlops.record_collection_deletion();
