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

-- Whether an item is stored whole, as the record does it. pgstac keeps only what differs from its
-- collection's base item: mostly no stac_version, but that of an item of another version than its
-- collection. A first link that begins with the root of the API is the record's own alone.
CREATE FUNCTION mlops.is_whole(content jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT content ? 'stac_version'
        AND starts_with(coalesce(content #>> '{links,0,href}', ''), U&'\E000')
$$;

-- An item as it was written, as JSON text. pgstac drops nulls when it puts an item and the base item
-- together again. The text of one that is stored whole is put together from the database's own text
-- of each part, and nothing is merged. What other tools loaded is hydrated as pgstac does it.
-- Coordinates have up to 40 decimals: with the usual 20 a small one loses its last digits.
-- In the text one byte, which no JSON has outside of its escapes, stands for a quote and the root of
-- the API: a reader gets it with a replacement of one byte, ten times as fast as one of four.
-- In a language that planners do not look into: seldom called, it would lengthen the plan of each read.
CREATE FUNCTION mlops.text_of(i pgstac.items) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RETURN replace(
        CASE WHEN mlops.is_whole(i.content) THEN
            '{"type":"Feature","id":' || to_json(i.id)::text
                || ',"collection":' || to_json(i.collection)::text
                || ',"geometry":' || public.ST_AsGeoJSON(i.geometry, 40) || ','
                || right(i.content::text, -1)
        ELSE mlops.linked(pgstac.content_hydrate(i))::text END,
        U&'"\E000', U&'\0002');
END;
$$;

-- The text of an item is kept beside it, in the column that pgstac leaves to its operators: to make
-- it from JSON as the database holds it takes longer than all else that a search does. Whoever
-- writes an item and however, the text is made anew, so it is never another item's or an older one.
-- SECURITY DEFINER: a writer needs rights on pgstac only.
CREATE FUNCTION mlops.keep_text() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = mlops, pgstac, public AS $$
BEGIN
    IF NEW.private IS NULL OR jsonb_typeof(NEW.private) = 'object' THEN
        -- An item that is hydrated has none: its collection has a part in what is read of it.
        NEW.private := nullif(
            coalesce(NEW.private - 'mlops:text', '{}')
                || CASE WHEN is_whole(NEW.content)
                    THEN jsonb_build_object('mlops:text', text_of(NEW)) ELSE '{}' END,
            '{}');
    END IF;
    RETURN NEW;
END;
$$;

CREATE TRIGGER mlops_keep_text
    BEFORE INSERT OR UPDATE ON pgstac.items
    FOR EACH ROW EXECUTE FUNCTION mlops.keep_text();

-- An item as it is read, in the encoding of who reads: UTF-8 for the API. As bytes, so that nobody
-- decodes what is sent on as it is.
CREATE FUNCTION mlops.document_json(i pgstac.items) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT textsend(coalesce(i.private->>'mlops:text', mlops.text_of(i)))
$$;

-- An item's strong ETag, without its quotes: over all that is read of it.
CREATE FUNCTION mlops.etag(i pgstac.items) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT md5(convert_to(coalesce(i.private->>'mlops:text', mlops.text_of(i)), 'UTF8'))
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
    ALTER TABLE pgstac.items ALTER COLUMN private SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported OR invalid_parameter_value THEN
    NULL;
END;
$$;

-- Where a row is too long for its page, the text stays: it is what is read. Of the content, filters
-- mostly ask an index.
ALTER TABLE pgstac.items ALTER COLUMN private SET STORAGE MAIN;
