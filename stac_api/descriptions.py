"""The API's description of itself: OpenAPI for programs, and a page made of it for people."""

from collections.abc import Iterator
from html import escape
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from stac_api.access import base_url_of
from stac_api.hrefs import OPENAPI
from stac_api.routes import Routes
from stac_api.settings import Settings

router = Routes()

_METHODS = ("get", "post", "put", "patch", "delete")
# Plain: a page that fetched a viewer from elsewhere would be empty on a machine without a way out.
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { border-bottom: 1px solid #ccc; margin-top: 2.5rem }
dt { font-family: ui-monospace, monospace; margin-top: 1rem }
dt b { display: inline-block; min-width: 4.5rem }
dd { margin: 0 0 0 4.5rem } .what { color: #555 }
"""


@router.get("/api")
async def read_openapi(request: Request) -> Response:
    """The OpenAPI document."""
    document: dict[str, Any] = request.app.openapi()
    servers = [{"url": base_url_of(request).rstrip("/")}]
    return Response(orjson.dumps({**document, "servers": servers}), media_type=OPENAPI)


@router.get("/api.html")
async def read_documentation(request: Request) -> Response:
    """The OpenAPI document as a page that needs nothing from elsewhere."""
    settings: Settings = request.app.state.settings_mlops
    base_url = base_url_of(request)
    title = escape(settings.title)
    sections = "".join(_sections(request.app.openapi()))
    return HTMLResponse(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{title} API</h1><p>{escape(settings.description)}. The root is "
        f'<a href="{escape(base_url)}">{escape(base_url)}</a>; programs read '
        f'<a href="{escape(base_url)}api">OpenAPI</a>.</p>{sections}</body></html>'
    )


def _sections(document: dict[str, Any]) -> Iterator[str]:
    by_tag: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if method in operations:
                operation = operations[method]
                tag = (operation.get("tags") or ["Other"])[0]
                by_tag.setdefault(tag, []).append(_operation(method, path, operation))
    for tag, entries in by_tag.items():
        yield f"<h2>{escape(tag)}</h2><dl>{''.join(entries)}</dl>"


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    summary, what = operation.get("summary", ""), operation.get("description", "")
    return (
        f"<dt><b>{method.upper()}</b> {escape(path)}</dt>"
        f'<dd>{escape(summary)}<br><span class="what">{escape(what)}</span></dd>'
    )
