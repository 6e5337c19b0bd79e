"""Collection search: GET /collections with bbox, datetime, words, filter, sort, fields and pages.

Collections are few beside items: a page is found by its offset, and all of them are counted.
"""

import re
from typing import Any
from urllib.parse import urlencode

import asyncpg
import orjson
from starlette.requests import Request
from starlette.responses import Response

from mlops.items.rels import Rel
from stac_api.access import base_url_of
from stac_api.documents import Document
from stac_api.hrefs import JSON, render_collection
from stac_api.problems import Fault, Problem
from stac_api.routes import Routes
from stac_api.search.fields import Fields
from stac_api.search.query import conditions_of
from stac_api.search.request import SearchRequest, read_parameters
from stac_api.search.routes import single_parameters
from stac_api.search.sorting import read_keys
from stac_api.search.statement import Arguments

router = Routes("Collections")

_DEFAULT_LIMIT = 1000
_OFFSET = re.compile(r"\A[0-9]{1,9}\Z")
_OF_ITEMS = ("collections", "intersects", "token")
_ALWAYS = frozenset({"type", "stac_version", "id"})


@router.get("/collections", summary="List and search collections")
async def search_collections(request: Request) -> Response:
    """Collections, by id where no other order is asked for."""
    parameters = single_parameters(request.scope["query_string"])
    for name in _OF_ITEMS:
        if name in parameters:
            raise _fault(name, "is a parameter of searches for items")
    offset = _offset(parameters.get("offset", "0"))
    known = {name: text for name, text in parameters.items() if name != "offset"}
    search = read_parameters({"limit": str(_DEFAULT_LIMIT), **known})
    async with request.app.state.pool.acquire() as connection:
        documents, matched = await _find(connection, search, offset)
    base_url = base_url_of(request)
    rendered = (render_collection(document, base_url) for document in documents)
    body = {
        "collections": [_part(collection, search.fields) for collection in rendered],
        "links": _links(request, parameters, search.limit, offset, matched),
        "numberMatched": matched,
        "numberReturned": len(documents),
    }
    return Response(orjson.dumps(body), media_type=JSON)


async def _find(
    connection: asyncpg.Connection, search: SearchRequest, offset: int
) -> tuple[list[Document], int]:
    arguments = Arguments()
    found = " AND ".join(conditions_of(search, arguments)) or "true"
    keys = read_keys(search.sort_by or [{"field": "id"}], one_collection=True)
    order = ", ".join(
        f"{key.expression.sql} {'DESC' if key.descending else 'ASC'} NULLS LAST" for key in keys
    )
    # Built of constants and checked names; every value is an argument.
    matching = f"FROM mlops.collections_as_items() i WHERE {found}"
    matched = await connection.fetchval(f"SELECT count(*) {matching}", *arguments.values)
    rows = await connection.fetch(
        "SELECT (SELECT c.content::text FROM pgstac.collections c WHERE c.id = i.id) AS document"  # noqa: S608
        f" {matching} ORDER BY {order} LIMIT {int(search.limit)} OFFSET {int(offset)}",
        *arguments.values,
    )
    return [orjson.loads(row["document"]) for row in rows], int(matched)


def _part(collection: Document, fields: Fields | None) -> Document:
    """What the ``fields`` extension leaves of a collection; its members as a whole."""
    if fields is None:
        return collection
    wanted = {name.split(".")[0] for name in fields.include} | _ALWAYS
    return {
        name: value
        for name, value in collection.items()
        if name not in fields.exclude and (not fields.include or name in wanted)
    }


def _links(
    request: Request, parameters: dict[str, str], limit: int, offset: int, matched: int
) -> list[dict[str, Any]]:
    base_url = base_url_of(request)
    own, query = f"{base_url}collections", request.url.query
    links = [
        {"rel": Rel.SELF, "type": JSON, "href": f"{own}?{query}" if query else own},
        {"rel": Rel.ROOT, "type": JSON, "href": base_url},
        {"rel": Rel.PARENT, "type": JSON, "href": base_url},
    ]
    # An offset behind the end goes back to the last page, not through empty ones.
    previous = max(min(offset, matched) - limit, 0)
    pages = (("next", offset + limit, offset + limit < matched), ("prev", previous, offset > 0))
    for rel, start, is_there in pages:
        if is_there:
            href = f"{own}?{urlencode({**parameters, 'offset': start})}"
            links.append({"rel": rel, "type": JSON, "method": "GET", "href": href})
    return links


def _offset(text: str) -> int:
    if not _OFFSET.match(text):
        raise _fault("offset", "must be a whole number that is not negative")
    return int(text)


def _fault(name: str, detail: str) -> Problem:
    return Problem(400, f"The search is not valid: {name} {detail}.", [Fault(f"/{name}", detail)])
