-- What searches stand on: values of JSON as they are compared, words, indexes.

-- A JSON value as a number, a text or a time, or NULL when it is none: a filter never fails on a
-- value. What catches an error begins a subtransaction, which cannot be while others work in parallel.
CREATE FUNCTION mlops.number(value jsonb) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE jsonb_typeof(value) WHEN 'number' THEN value::numeric END
$$;

CREATE FUNCTION mlops.string(value jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE jsonb_typeof(value) WHEN 'string' THEN value #>> '{}' END
$$;

-- PostgreSQL would take 'now' and 'infinity' for times, too, and the number 20260101.
CREATE FUNCTION mlops.instant(value jsonb) RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL UNSAFE AS $$
BEGIN
    IF mlops.string(value) ~ '^\d{4}-\d\d-\d\d([Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d))?$' THEN
        RETURN (value #>> '{}')::timestamptz;
    END IF;
    RETURN NULL;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END;
$$;

CREATE FUNCTION mlops.calculate(a numeric, operator text, b numeric) RETURNS numeric
LANGUAGE plpgsql IMMUTABLE PARALLEL UNSAFE AS $$
BEGIN
    RETURN CASE operator
        WHEN '+' THEN a + b WHEN '-' THEN a - b WHEN '*' THEN a * b
        WHEN '/' THEN a / b WHEN 'div' THEN div(a, b) WHEN '%' THEN a % b WHEN '^' THEN a ^ b END;
EXCEPTION WHEN data_exception THEN
    RETURN NULL; -- divided by zero, or too large a number
END;
$$;

-- Whether an array has every element of another, and whether both have one in common. JSONB's own
-- containment looks into the elements: it finds [1] in [[1, 2]].
CREATE FUNCTION mlops.has_all(a jsonb, b jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN jsonb_typeof(a) = 'array' AND jsonb_typeof(b) = 'array' THEN NOT EXISTS (
        SELECT jsonb_array_elements(b) EXCEPT SELECT jsonb_array_elements(a)) END
$$;

CREATE FUNCTION mlops.has_any(a jsonb, b jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN jsonb_typeof(a) = 'array' AND jsonb_typeof(b) = 'array' THEN EXISTS (
        SELECT jsonb_array_elements(b) INTERSECT SELECT jsonb_array_elements(a)) END
$$;

CREATE FUNCTION mlops.related(relation text, a public.geometry, b public.geometry) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN CASE relation
        WHEN 's_intersects' THEN public.ST_Intersects(a, b)
        WHEN 's_disjoint' THEN public.ST_Disjoint(a, b)
        WHEN 's_equals' THEN public.ST_Equals(a, b)
        WHEN 's_touches' THEN public.ST_Touches(a, b)
        WHEN 's_within' THEN public.ST_Within(a, b)
        WHEN 's_overlaps' THEN public.ST_Overlaps(a, b)
        WHEN 's_crosses' THEN public.ST_Crosses(a, b)
        WHEN 's_contains' THEN public.ST_Contains(a, b) END;
END;
$$;

-- What a geometry covers that crosses itself, or has parts that overlap: NULL where that would be too
-- much to find out. Time and memory grow with the crossings, of which there may be as many as the
-- square of its corners: 600 took 0.7 s and 110 MB, 3,000 more than half a minute and 2 GB.
CREATE FUNCTION mlops.covered(shape public.geometry) RETURNS public.geometry
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN public.ST_NPoints(shape) <= 500
        THEN public.ST_MakeValid(shape, 'method=structure keepcollapsed=true') END
$$;

-- A geometry that is searched with, as what it covers; where in the request it stands is the detail
-- of its refusal.
CREATE FUNCTION mlops.wanted_shape(shape public.geometry, place text) RETURNS public.geometry
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF public.ST_IsValid(shape) THEN
        RETURN shape;
    END IF;
    shape := mlops.covered(shape);
    IF shape IS NULL THEN
        RAISE EXCEPTION 'The geometry crosses itself and has more than 500 corners: mend or simplify it.'
            USING DETAIL = place;
    END IF;
    RETURN shape;
END;
$$;

-- How two geometries lie to each other. For one that crosses itself PostGIS may fail to say so; then
-- it is asked about what they cover.
CREATE FUNCTION mlops.relate(relation text, a public.geometry, b public.geometry) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL UNSAFE COST 5000 AS $$
BEGIN
    RETURN mlops.related(relation, a, b);
EXCEPTION WHEN internal_error THEN
    BEGIN
        RETURN mlops.related(relation, mlops.covered(a), mlops.covered(b));
    EXCEPTION WHEN internal_error THEN
        RETURN NULL;
    END;
END;
$$;

-- What free text searches; the same words as pgstac's own search.
CREATE FUNCTION mlops.words(content jsonb) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT to_tsvector('english'::regconfig, coalesce(content->'properties'->>'description', ''))
        || to_tsvector('english'::regconfig, coalesce(content->'properties'->>'title', ''))
        || to_tsvector('english'::regconfig, coalesce(content->'properties'->>'keywords', ''))
$$;

-- What free text asks for. pgstac reads operators in it and fails where they make no expression;
-- then the words are looked for as they are.
-- IMMUTABLE, so that the planner sees how rare the words are: an index finds rare ones, and common
-- ones are found soonest among the newest items.
CREATE FUNCTION mlops.wanted_words(q jsonb) RETURNS tsquery
LANGUAGE plpgsql IMMUTABLE PARALLEL UNSAFE AS $$
BEGIN
    RETURN pgstac.q_to_tsquery(q);
EXCEPTION WHEN syntax_error THEN
    RETURN websearch_to_tsquery('english', (
        SELECT string_agg(word, ' or ') FROM jsonb_array_elements_text(
            CASE jsonb_typeof(q) WHEN 'array' THEN q ELSE jsonb_build_array(q) END) word));
END;
$$;

-- The area of a bounding box of 4 or 6 numbers, of which one may cross the antimeridian: pgstac's
-- own reading of a collection's extent knows neither.
CREATE FUNCTION mlops.area(box jsonb) RETURNS public.geometry
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN west <= east
        THEN public.ST_Envelope(public.ST_MakeEnvelope(west, south, east, north, 4326))
        ELSE public.ST_Collect(
            public.ST_MakeEnvelope(west, south, 180, north, 4326),
            public.ST_MakeEnvelope(-180, south, east, north, 4326)) END
    FROM (SELECT (box->>0)::float AS west, (box->>1)::float AS south,
        (box->>half)::float AS east, (box->>(half + 1))::float AS north
        FROM (SELECT jsonb_array_length(box) / 2 AS half) dimensions) corners
$$;

-- Collections in the shape of items, so that one and the same search finds both: their extent is
-- the geometry and the time, and all but links and the like are properties.
CREATE FUNCTION mlops.collections_as_items() RETURNS SETOF pgstac.items
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT id, mlops.area(collectionjson->'extent'->'spatial'->'bbox'->0), id, datetime,
        end_datetime, content, NULL::jsonb
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
    ('training-run', true, ARRAY['mlops:model', 'mlops:status', 'mlops:recipe', 'mlops:task',
        'mlops:framework', 'mlops:requested_by']),
    ('training-run', false, ARRAY['mlops:progress', 'mlops:objective_value', 'mlops:attempt',
        'mlops:started', 'mlops:finished', 'mlops:compute/engine', 'mlops:compute/instance_type',
        'mlops:cost/seconds', 'created']),
    ('model', true, ARRAY['mlops:model', 'mlops:run']),
    ('model', false, ARRAY['mlops:published', 'created']),
    ('training-data', true, ARRAY['mlops:dataset']),
    ('training-data', false, ARRAY['mlops:samples', 'mlops:size', 'mlops:manifest_digest',
        'mlops:non_spatial', 'mlops:synthetic', 'mlops:published', 'created'])
) AS kinds(kind, newest, fields), unnest(fields) AS field
UNION ALL
-- The names that frameworks and this field's papers give them; an operator may add others.
SELECT kind, format('mlops:metrics/%s_%s', split, measure), false
FROM unnest(ARRAY['training-run', 'model']) AS kind, unnest(ARRAY['val', 'test']) AS split,
    unnest(ARRAY['loss', 'accuracy', 'balanced_accuracy', 'precision', 'recall', 'f1', 'macro_f1',
        'iou', 'mean_iou', 'rmse', 'mae', 'r2']) AS measure;

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
                CASE WHEN kind = 'training-run' AND field.path ~ '^mlops:(metrics/|objective_value$)'
                    THEN $sql$, (content->'properties'->'mlops:status')$sql$ END,
                value);
            EXECUTE format('CREATE STATISTICS IF NOT EXISTS pgstac.%I ON (%s) FROM pgstac.%I',
                name || '_s', value, partition);
        END IF;
    END LOOP;
    EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON pgstac.%I USING gin (mlops.words(content))',
        partition || '_words', partition);
END;
$$;

-- What an operator calls for a field of their own, such as 'mlops:metrics/val_kappa': it is indexed
-- in all collections of a kind, those that are there and those that come.
CREATE FUNCTION mlops.index_field(kind text, path text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = mlops, pgstac, public AS $$
DECLARE
    collection_id text;
BEGIN
    INSERT INTO mlops.indexed_fields (kind, path, newest) VALUES (kind, path, false)
        ON CONFLICT DO NOTHING;
    FOR collection_id IN
        SELECT id FROM pgstac.collections WHERE content->>'mlops:kind' = index_field.kind
    LOOP
        PERFORM mlops.index_collection(collection_id, kind);
    END LOOP;
END;
$$;
