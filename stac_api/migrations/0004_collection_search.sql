-- Collections in the shape of items, so that one and the same search finds both: their extent is
-- the geometry and the time, and all but links and the like are properties.
CREATE FUNCTION mlops.collections_as_items() RETURNS SETOF pgstac.items
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT id, geometry, id, datetime, end_datetime, content, NULL::jsonb
    FROM pgstac.collections_asitems
    WHERE collectionjson->>'type' = 'Collection'
$$;
