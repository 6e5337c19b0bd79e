"""HTTP of search: /search and the items of a collection."""

from typing import Any
from urllib.parse import urlencode

import orjson
from starlette.requests import Request
from starlette.responses import Response

from stac_api import records
from stac_api.access import base_url_of
from stac_api.documents import Document, read_document
from stac_api.hrefs import GEOJSON, JSON, collection_url, render
from stac_api.problems import Fault, Problem, pointer
from stac_api.routes import Routes
from stac_api.search.fields import Fields
from stac_api.search.query import Page, run
from stac_api.search.request import SearchRequest, read_body, read_parameters

router = Routes("Search")

_MAX_BODY = 1 << 20


@router.get("/search", summary="Search items")
async def get_search(request: Request) -> Response:
    """Search by parameters; the filter in cql2-text where nothing else is said."""
    search = read_parameters(parameters_of(request))
    own = f"{base_url_of(request)}search"
    return await _answer(request, search, own, _root_links(request, own), body=None)


@router.post("/search", summary="Search items")
async def post_search(request: Request) -> Response:
    """Search by a JSON body."""
    body = await read_document(request, _MAX_BODY)
    own = f"{base_url_of(request)}search"
    return await _answer(request, read_body(body), own, _root_links(request, own), body=body)


@router.get("/collections/{collection_id}/items", summary="List a collection's items")
async def list_items(collection_id: str, request: Request) -> Response:
    """Items of one collection, with the parameters of a search."""
    parameters = parameters_of(request)
    # pystac-client says the collection of the path once more.
    if parameters.get("collections", collection_id) != collection_id:
        detail = f"is given by the path: {collection_id}"
        raise Problem(400, f"collections {detail}.", [Fault("/collections", detail)])
    search = read_parameters({**parameters, "collections": collection_id})
    async with request.app.state.pool.acquire() as connection:
        await records.place_of(connection, collection_id)
    home = collection_url(base_url_of(request), collection_id)
    own = f"{home}/items"
    links = [
        *_root_links(request, own),
        {"rel": "parent", "type": JSON, "href": home},
        {"rel": "collection", "type": JSON, "href": home},
    ]
    return await _answer(request, search, own, links, body=None)


async def _answer(
    request: Request,
    search: SearchRequest,
    own: str,
    links: list[Document],
    body: Document | None,
) -> Response:
    async with request.app.state.pool.acquire() as connection:
        page = await run(connection, search)
    links += _page_links(request, own, page, body)
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


def _page_links(request: Request, own: str, page: Page, body: Document | None) -> list[Document]:
    links = []
    for rel, token in (("next", page.next), ("prev", page.previous)):
        if token is None:
            continue
        link: dict[str, Any] = {"rel": rel, "type": GEOJSON, "method": request.method}
        if body is not None:
            link |= {"href": own, "body": {**body, "token": token}, "merge": False}
        else:
            query = urlencode({**parameters_of(request), "token": token})
            link |= {"href": f"{own}?{query}", "method": "GET"}
        links.append(link)
    return links


def parameters_of(request: Request) -> dict[str, str]:
    """The parameters, of which each may come once only."""
    parameters: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in parameters:
            detail = "is given twice"
            raise Problem(400, f"{name} {detail}.", [Fault(pointer(name), detail)])
        parameters[name] = value
    return parameters
