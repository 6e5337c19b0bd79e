"""The landing page: where every client begins."""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from mlops.items.extension import STAC_VERSION
from mlops.items.rels import Rel
from stac_api.access import base_url_of
from stac_api.conformance import CONFORMANCE_CLASSES
from stac_api.hrefs import GEOJSON, JSON, OPENAPI, SCHEMA_JSON, collection_url
from stac_api.routes import Routes
from stac_api.settings import Settings

router = Routes("Landing page")

IDENTITY = "stac-mlops"
QUERYABLES = "http://www.opengis.net/def/rel/ogc/1.0/queryables"
_CONFORMANCE = "http://www.opengis.net/def/rel/ogc/1.0/conformance"
_COLLECTIONS = "SELECT id, content->>'title' AS title FROM pgstac.collections ORDER BY id"


@router.get("/", summary="Landing page")
async def read_landing_page(request: Request) -> Response:
    """The root catalog: what this API can do, and where."""
    settings: Settings = request.app.state.settings_mlops
    collections = await request.app.state.pool.fetch(_COLLECTIONS)
    base_url = base_url_of(request)
    page = {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": IDENTITY,
        "title": settings.title,
        "description": settings.description,
        "conformsTo": CONFORMANCE_CLASSES,
        "links": [
            {"rel": Rel.SELF, "type": JSON, "href": _asked_for(request, base_url)},
            {"rel": Rel.ROOT, "type": JSON, "href": base_url, "title": settings.title},
            *_services(base_url),
            *(_child(base_url, row["id"], row["title"]) for row in collections),
        ],
    }
    return Response(orjson.dumps(page), media_type=JSON)


def _asked_for(request: Request, base_url: str) -> str:
    # Below a prefix the root has two names; a client that compares gets back the one it used.
    return base_url if request.scope.get("root_has_slash", True) else base_url.rstrip("/")


def _services(base_url: str) -> list[dict[str, Any]]:
    search = f"{base_url}search"
    return [
        {"rel": "data", "type": JSON, "href": f"{base_url}collections", "title": "Collections"},
        {"rel": "conformance", "type": JSON, "href": f"{base_url}conformance"},
        {"rel": _CONFORMANCE, "type": JSON, "href": f"{base_url}conformance"},
        {"rel": "service-desc", "type": OPENAPI, "href": f"{base_url}api"},
        {"rel": "service-doc", "type": "text/html", "href": f"{base_url}api.html"},
        {"rel": "search", "type": GEOJSON, "href": search, "method": "GET", "title": "Search"},
        {"rel": "search", "type": GEOJSON, "href": search, "method": "POST", "title": "Search"},
        {
            "rel": QUERYABLES,
            "type": SCHEMA_JSON,
            "href": f"{base_url}queryables",
            "title": "Queryables",
        },
    ]


def _child(base_url: str, identity: str, title: str | None) -> dict[str, Any]:
    href = collection_url(base_url, identity)
    return {"rel": "child", "type": JSON, "href": href, "title": title or identity}
