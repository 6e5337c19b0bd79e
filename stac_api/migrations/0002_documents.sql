-- Items as documents, and their ETags.

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

-- The same as JSON text in UTF-8, put together from the database's own text of each part: nothing is
-- merged. As bytes, because taking the first character from a text means walking through it.
CREATE FUNCTION mlops.document_json(i pgstac.items) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN i.content ? 'stac_version' THEN
        convert_to('{"type":"Feature","id":' || to_json(i.id)::text
            || ',"collection":' || to_json(i.collection)::text
            || ',"geometry":' || public.ST_AsGeoJSON(i.geometry, 20) || ',', 'UTF8')
        || substr(convert_to(i.content::text, 'UTF8'), 2)
    ELSE convert_to(mlops.document(i)::text, 'UTF8') END
$$;

-- An item's strong ETag, without its quotes: over all that is read of it.
CREATE FUNCTION mlops.etag(i pgstac.items) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT md5(mlops.document_json(i))
$$;

CREATE FUNCTION mlops.etag(c pgstac.collections) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT md5(c.content::text)
$$;

-- Items are read far more often than written, and most are large enough to be compressed: lz4 gives
-- them back in half the time. Not every PostgreSQL was built with it.
DO $$
BEGIN
    ALTER TABLE pgstac.items ALTER COLUMN content SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported OR invalid_parameter_value THEN
    NULL;
END;
$$;
