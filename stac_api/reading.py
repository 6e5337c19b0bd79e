"""Browsing: the landing page and the list of collections, by stac-fastapi with our links."""

from typing import Any, cast

from fastapi import Request
from stac_fastapi.pgstac.core import CoreCrudClient
from stac_fastapi.types.stac import Collections

from stac_api.access import base_url_of
from stac_api.documents import Document
from stac_api.hrefs import render_collection


class BrowseClient(CoreCrudClient):  # type: ignore[misc]  # the library has no types
    """stac-fastapi's client, rendering collections as our own routes do."""

    async def all_collections(self, request: Request, **arguments: Any) -> Collections:
        answer = await super().all_collections(request, **arguments)
        if isinstance(answer, dict):
            base_url = base_url_of(request)
            answer["collections"] = [
                render_collection(cast(Document, c), base_url) for c in answer["collections"]
            ]
        return cast(Collections, answer)
