-- What searches stand on: values of JSON as they are compared, words, indexes.

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

-- What free text asks for. pgstac reads operators in it and fails where they make no expression;
-- then the words are looked for as they are.
CREATE FUNCTION mlops.wanted_words(q jsonb) RETURNS tsquery
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RETURN pgstac.q_to_tsquery(q);
EXCEPTION WHEN syntax_error THEN
    RETURN websearch_to_tsquery('english', (
        SELECT string_agg(word, ' or ') FROM jsonb_array_elements_text(
            CASE jsonb_typeof(q) WHEN 'array' THEN q ELSE jsonb_build_array(q) END) word));
END;
$$;

-- Collections in the shape of items, so that one and the same search finds both: their extent is
-- the geometry and the time, and all but links and the like are properties.
CREATE FUNCTION mlops.collections_as_items() RETURNS SETOF pgstac.items
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT id, geometry, id, datetime, end_datetime, content, NULL::jsonb
    FROM pgstac.collections_asitems
    WHERE collectionjson->>'type' = 'Collection'
$$;

-- Fields that a workspace's collections are indexed by, as paths below the properties; ``newest`` for
-- those that are filtered by to see the newest items first.
CREATE TABLE mlops.indexed_fields (
    kind text NOT NULL,
    path text NOT NULL,
    newest boolean NOT NULL,
    PRIMARY KEY (kind, path)
);
INSERT INTO mlops.indexed_fields (kind, path, newest)
SELECT kind, field, newest FROM (VALUES
    ('training-run', true, ARRAY['mlops:model', 'mlops:status', 'mlops:recipe']),
    ('training-run', false, ARRAY['mlops:progress', 'mlops:objective_value', 'created',
        'mlops:metrics/val_loss', 'mlops:metrics/val_accuracy',
        'mlops:metrics/val_balanced_accuracy', 'mlops:metrics/val_f1',
        'mlops:metrics/val_macro_f1', 'mlops:metrics/test_accuracy',
        'mlops:metrics/test_balanced_accuracy', 'mlops:metrics/test_macro_f1']),
    ('model', true, ARRAY['mlops:model', 'mlops:run']),
    ('model', false, ARRAY['created', 'mlops:metrics/val_f1', 'mlops:metrics/val_macro_f1',
        'mlops:metrics/test_balanced_accuracy', 'mlops:metrics/test_macro_f1']),
    ('training-data', true, ARRAY['mlops:dataset']),
    ('training-data', false, ARRAY['created'])
) AS kinds(kind, newest, fields), unnest(fields) AS field;

-- Indexes of a workspace's collection: what its items are filtered and sorted by. One on a JSON
-- value serves equality, ranges and both directions of a sort. What not every item has is indexed
-- where it is there: a new run has no metrics yet, and costs nothing. The planner takes no
-- statistics from such an index, so they are gathered for themselves. With a run's status beside its
-- metric a leaderboard of the successful ones never looks into their content.
CREATE FUNCTION mlops.index_collection(collection_id text, kind text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = mlops, pgstac, public AS $$
DECLARE
    partition text;
    field mlops.indexed_fields;
    value text;
    name text;
BEGIN
    SELECT format('_items_%s', key) INTO STRICT partition
        FROM pgstac.collections WHERE id = collection_id;
    FOR field IN
        SELECT * FROM mlops.indexed_fields fields WHERE fields.kind = index_collection.kind
    LOOP
        SELECT format('(content->''properties''%s)', string_agg(format('->%L', step), '' ORDER BY n))
            INTO value
            FROM unnest(string_to_array(field.path, '/')) WITH ORDINALITY AS steps(step, n);
        name := left(format('%s_%s', partition, md5(field.path)), 60);
        IF field.newest THEN
            EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON pgstac.%I (%s, datetime, id)',
                name, partition, value);
        ELSE
            EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON pgstac.%I (%s%s, id) WHERE %s IS NOT NULL',
                name, partition, value,
                CASE kind WHEN 'training-run' THEN $sql$, (content->'properties'->'mlops:status')$sql$ END,
                value);
            EXECUTE format('CREATE STATISTICS IF NOT EXISTS pgstac.%I ON (%s) FROM pgstac.%I',
                name || '_s', value, partition);
        END IF;
    END LOOP;
END;
$$;
