"""Browsing: every item of a collection reached by links alone, through catalogs of bounded size.

A collection links to its catalog. That names the items while they are few, and else one catalog
for every range of ids; the ranges leave no gap, so whoever follows them misses nothing that was
there all the while.
"""

from itertools import pairwise
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from starlette.requests import Request
from starlette.responses import Response

from mlops.items.extension import STAC_VERSION
from mlops.items.rels import Rel
from stac_api.access import base_url_of
from stac_api.hrefs import GEOJSON, JSON, collection_url, item_url
from stac_api.problems import not_found
from stac_api.routes import Routes
from stac_api.search.routes import single_parameters

router = Routes("Collections")

PATH = "/collections/{collection_id}/browse"
_PAGE = 1000
_EXISTS = "SELECT EXISTS (SELECT FROM pgstac.collections WHERE id = $1)"
_IDS = (
    "SELECT id FROM pgstac.items WHERE collection = $1"
    " AND ($2::text IS NULL OR id >= $2) AND ($3::text IS NULL OR id < $3)"
    " ORDER BY id LIMIT $4"
)
_STARTS = (
    "SELECT id FROM (SELECT id, row_number() OVER (ORDER BY id) AS place"
    " FROM pgstac.items WHERE collection = $1) numbered WHERE place % $2 = 1 ORDER BY id"
)


@router.get(PATH, summary="Browse the items of a collection")
async def browse(collection_id: str, request: Request) -> Response:
    """A catalog of the items whose ids lie from ``start`` on and before ``end``."""
    parameters = single_parameters(request.scope["query_string"])
    start, end = parameters.get("start"), parameters.get("end")
    base_url = base_url_of(request)
    whole = start is None and end is None
    async with request.app.state.pool.acquire() as connection:
        if not await connection.fetchval(_EXISTS, collection_id):
            raise not_found(f"Collection {collection_id}")
        # A range that has grown since it was linked is given whole: nothing of it is elsewhere.
        limit = _PAGE + 1 if whole else None
        rows = await connection.fetch(_IDS, collection_id, start, end, limit)
        ids = [row["id"] for row in rows]
        if whole and len(ids) > _PAGE:
            rows = await connection.fetch(_STARTS, collection_id, _PAGE)
            content = _ranges(base_url, collection_id, [row["id"] for row in rows])
        else:
            content = [_item(base_url, collection_id, identity) for identity in ids]
    body = orjson.dumps(_catalog(base_url, collection_id, start, end, content))
    return Response(body, media_type=JSON)


def browse_url(base_url: str, collection: str, start: str | None, end: str | None) -> str:
    """The URL of the catalog of a range; of the whole collection without one."""
    given = {name: value for name, value in (("start", start), ("end", end)) if value is not None}
    query = "?" + urlencode(given, quote_via=quote) if given else ""
    return f"{collection_url(base_url, collection)}/browse{query}"


def _catalog(
    base_url: str,
    collection: str,
    start: str | None,
    end: str | None,
    content: list[dict[str, Any]],
) -> dict[str, Any]:
    home = collection_url(base_url, collection)
    whole = start is None and end is None
    parent = home if whole else browse_url(base_url, collection, None, None)
    span = "" if whole else f" from {start or 'the first'} to {end or 'the last'}"
    return {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": f"{collection}-items" if whole else f"{collection}-items-{start or ''}",
        "title": f"Items of {collection}{span}",
        "description": f"Links to the items of collection {collection}{span}.",
        "links": [
            {"rel": Rel.SELF, "type": JSON, "href": browse_url(base_url, collection, start, end)},
            {"rel": Rel.ROOT, "type": JSON, "href": base_url},
            {"rel": Rel.PARENT, "type": JSON, "href": parent},
            {"rel": Rel.COLLECTION, "type": JSON, "href": home},
            *content,
        ],
    }


def _item(base_url: str, collection: str, identity: str) -> dict[str, Any]:
    href = item_url(base_url, collection, identity)
    return {"rel": "item", "type": GEOJSON, "href": href, "title": identity}


def _ranges(base_url: str, collection: str, starts: list[str]) -> list[dict[str, Any]]:
    # The first range begins and the last one ends wherever the ids do.
    bounds = [None, *starts[1:], None]
    return [
        {
            "rel": "child",
            "type": JSON,
            "href": browse_url(base_url, collection, start, end),
            "title": f"{start or starts[0]} …",
        }
        for start, end in pairwise(bounds)
    ]
