"""The API's description of itself: OpenAPI for programs, and pages made of it for people."""

from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import Response

from stac_api.access import base_url_of
from stac_api.settings import Settings

router = APIRouter(include_in_schema=False)

OPENAPI = "application/vnd.oai.openapi+json;version=3.1"


@router.get("/api")
async def read_openapi(request: Request) -> Response:
    """The OpenAPI document."""
    document: dict[str, Any] = request.app.openapi()
    servers = [{"url": base_url_of(request).rstrip("/")}]
    return Response(orjson.dumps({**document, "servers": servers}), media_type=OPENAPI)


@router.get("/api.html")
async def read_documentation(request: Request) -> Response:
    """The OpenAPI document as a page."""
    settings: Settings = request.app.state.settings_mlops
    return get_swagger_ui_html(
        openapi_url=f"{base_url_of(request)}api", title=f"{settings.title} - API"
    )
