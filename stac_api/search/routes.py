"""HTTP of search: /search and the items of a collection."""

import re
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

import asyncpg
import orjson
from starlette.requests import Request
from starlette.responses import Response

from stac_api.access import base_url_of
from stac_api.documents import JSON_TYPES, Document, parse_document, read_body, require_type
from stac_api.hrefs import GEOJSON, JSON, collection_url, render
from stac_api.pool import Planning
from stac_api.problems import Fault, Problem, not_found, pointer
from stac_api.records import EVERY_TABLE
from stac_api.routes import Routes
from stac_api.search.fields import Fields
from stac_api.search.plans import planning_of
from stac_api.search.query import Page, run
from stac_api.search.request import SearchRequest, read_parameters, read_search
from stac_api.tables import Tables

router = Routes("Search")

_MAX_BODY = 1 << 20
# Pages of a front end and boards on a wall ask for the same over and over: to understand a search
# takes as long as to find ten items. So many are kept, and none that is long.
_KEPT = 512
_SHORT = 4096
# A byte that is none of UTF-8 is read as half of a surrogate pair, which no UTF-8 holds.
_AS_HALVES = "surrogateescape"
_HALF = re.compile("[\ud800-\udfff]")


class _Asked(NamedTuple):
    """A search, the parameters or the body that asked for it, and how it is to be planned.

    Several requests may share it, so nothing of it is changed.
    """

    search: SearchRequest
    given: Document
    planning: Planning


@router.get("/search", summary="Search items")
async def get_search(request: Request) -> Response:
    """Search by parameters; the filter in cql2-text where nothing else is said."""
    asked = _asked_by_parameters(request.scope["query_string"], None)
    own = f"{base_url_of(request)}search"
    page = await _find(request, asked)
    return _answer(request, asked, page, own, _root_links(request, own))


@router.post("/search", summary="Search items")
async def post_search(request: Request) -> Response:
    """Search by a JSON body."""
    require_type(request, JSON_TYPES)
    asked = _asked_by_body(await read_body(request, _MAX_BODY))
    own = f"{base_url_of(request)}search"
    page = await _find(request, asked)
    return _answer(request, asked, page, own, _root_links(request, own))


@router.get("/collections/{collection_id}/items", summary="List a collection's items")
async def list_items(collection_id: str, request: Request) -> Response:
    """Items of one collection, with the parameters of a search."""
    asked = _asked_by_parameters(request.scope["query_string"], collection_id)
    page = await _find(request, asked, must_exist=True)
    home = collection_url(base_url_of(request), collection_id)
    own = f"{home}/items"
    links = [
        *_root_links(request, own),
        {"rel": "parent", "type": JSON, "href": home},
        {"rel": "collection", "type": JSON, "href": home},
    ]
    return _answer(request, asked, page, own, links)


def _asked_by_body(body: bytes) -> _Asked:
    return (_read if len(body) <= _SHORT else _read.__wrapped__)(body)


@lru_cache(maxsize=_KEPT)
def _read(body: bytes) -> _Asked:
    document = parse_document(body)
    return _asked(read_search(document), document)


def _asked_by_parameters(query: bytes, collection: str | None) -> _Asked:
    read = _read_parameters if len(query) <= _SHORT else _read_parameters.__wrapped__
    return read(query, collection)


@lru_cache(maxsize=_KEPT)
def _read_parameters(query: bytes, collection: str | None) -> _Asked:
    """A search by the parameters of a URL, in the collection that its path names."""
    given = single_parameters(query)
    if collection is None:
        return _asked(read_parameters(given), given)
    # pystac-client says the collection of the path once more.
    if given.get("collections", collection) != collection:
        detail = f"is given by the path: {collection}"
        raise Problem(400, f"collections {detail}.", [Fault("/collections", detail)])
    return _asked(read_parameters({**given, "collections": collection}), given)


def _asked(search: SearchRequest, given: Document) -> _Asked:
    return _Asked(search, given, planning_of(search))


async def _find(request: Request, asked: _Asked, *, must_exist: bool = False) -> Page:
    """The page that is asked for; 404 where a collection that must exist does not."""
    search, planning = asked.search, asked.planning
    if len(search.collections) != 1:
        async with request.app.state.pool.acquire(planning=planning) as connection:
            return await run(connection, search, EVERY_TABLE)
    (collection,) = search.collections

    async def find(connection: asyncpg.Connection, table: str | None) -> Page:
        if table is None and must_exist:
            raise not_found(f"Collection {collection}")
        return await run(connection, search, table or EVERY_TABLE)

    tables: Tables = request.app.state.tables
    return await tables.read(collection, find, planning)


def _answer(
    request: Request, asked: _Asked, page: Page, own: str, links: list[Document]
) -> Response:
    search = asked.search
    links += _page_links(request, own, page, asked.given)
    end: Document = {"links": links, "numberReturned": len(page.items)}
    if page.matched is not None:
        end["numberMatched"] = page.matched
    base_url = base_url_of(request)
    if search.fields is None:
        features = b",".join(page.items)
    else:
        features = _with_fields(page.items, search.fields, base_url)
    # Pages may be large: put together once, and gone through once.
    parts = (b'{"type":"FeatureCollection","features":[', features, b"],", orjson.dumps(end)[1:])
    return Response(render(b"".join(parts), base_url), media_type=GEOJSON)


def _with_fields(items: list[bytes], fields: Fields, base_url: str) -> bytes:
    """Only the wanted parts of each item; the one case in which items are parsed."""
    parsed: list[Document] = orjson.loads(render(b"[" + b",".join(items) + b"]", base_url))
    return orjson.dumps([fields.of(item) for item in parsed])[1:-1]


def _root_links(request: Request, own: str) -> list[Document]:
    query = request.scope["query_string"].decode()
    return [
        {"rel": "root", "type": JSON, "href": base_url_of(request)},
        {"rel": "self", "type": GEOJSON, "href": f"{own}?{query}" if query else own},
    ]


def _page_links(request: Request, own: str, page: Page, given: Document) -> list[Document]:
    links = []
    for rel, token in (("next", page.next), ("prev", page.previous)):
        if token is None:
            continue
        link: dict[str, Any] = {"rel": rel, "type": GEOJSON, "method": request.method}
        if request.method == "POST":
            link |= {"href": own, "body": {**given, "token": token}, "merge": False}
        else:
            query = urlencode({**given, "token": token})
            link |= {"href": f"{own}?{query}", "method": "GET"}
        links.append(link)
    return links


def single_parameters(query: bytes) -> dict[str, str]:
    """The parameters of a URL, in UTF-8, of which each may come once only."""
    parameters: dict[str, str] = {}
    text = query.decode(errors=_AS_HALVES)
    for name, value in parse_qsl(text, keep_blank_values=True, errors=_AS_HALVES):
        detail = "is given twice" if name in parameters else None
        if _HALF.search(name + value):
            detail = "is not UTF-8"
        if detail is not None:
            shown = name.encode(errors=_AS_HALVES).decode(errors="replace")
            raise Problem(400, f"{shown} {detail}.", [Fault(pointer(shown), detail)])
        parameters[name] = value
    return parameters
