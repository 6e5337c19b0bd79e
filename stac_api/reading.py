"""Reading: search and browse by stac-fastapi-pgstac, with our links and errors."""

from typing import Any, cast

import asyncpg
import orjson
from fastapi import Request
from hydraters import hydrate
from stac_fastapi.pgstac.core import CoreCrudClient
from stac_fastapi.pgstac.models.links import PagingLinks
from stac_fastapi.pgstac.types.search import PgstacSearch
from stac_fastapi.pgstac.utils import filter_fields
from stac_fastapi.types.errors import InvalidQueryParameter
from stac_fastapi.types.stac import Collections, ItemCollection

from stac_api.access import base_url_of
from stac_api.documents import Document
from stac_api.hrefs import render_collection, render_item
from stac_api.problems import Problem

_MAX_LIMIT = 10_000


class ReadClient(CoreCrudClient):  # type: ignore[misc]  # the library has no types
    """stac-fastapi's client, rendering documents as our own routes do."""

    async def _search_base(self, search_request: PgstacSearch, request: Request) -> ItemCollection:
        # A client's own settings of pgstac are not honoured.
        # Unhydrated: hydration drops nulls and costs most of a search's time.
        search_request.conf = {"nohydrate": True}
        if (search_request.limit or 0) > _MAX_LIMIT:
            raise Problem(400, f"limit is at most {_MAX_LIMIT}.")
        page = await _search(
            request, search_request.model_dump_json(exclude_none=True, by_alias=True)
        )
        base_url = base_url_of(request)
        tokens = {
            link["rel"]: link["href"].split(f"token={link['rel']}:")[-1]
            for link in page.get("links", [])
            if link.get("rel") in ("next", "prev")
        }
        fields = getattr(search_request, "fields", None)
        include = set(fields.include or ()) if fields else set()
        exclude = set(fields.exclude or ()) if fields else set()
        page["features"] = [
            filter_fields(render_item(_whole(item), base_url), include, exclude)
            for item in page.get("features") or []
        ]
        page["links"] = await PagingLinks(
            request=request, next=tokens.get("next"), prev=tokens.get("prev")
        ).get_links()
        return cast(ItemCollection, page)

    async def all_collections(self, request: Request, **arguments: Any) -> Collections:
        answer = await super().all_collections(request, **arguments)
        if isinstance(answer, dict):
            base_url = base_url_of(request)
            answer["collections"] = [
                render_collection(cast(Document, c), base_url) for c in answer["collections"]
            ]
        return cast(Collections, answer)


def _whole(item: Document) -> Document:
    """The item without pgstac's mark; hydrated where it was not stored whole."""
    base_item = item.pop("pgstac:base_item", None)
    if "stac_version" in item or not base_item:
        return item
    present = {key: value for key, value in base_item.items() if value is not None}
    hydrated: Document = hydrate(present, item)
    return hydrated


async def _search(request: Request, body: str) -> Document:
    try:
        async with request.app.state.pool.acquire() as connection:
            text = await connection.fetchval("SELECT pgstac.search($1::text::jsonb)::text", body)
    except (asyncpg.InvalidDatetimeFormatError, asyncpg.DatetimeFieldOverflowError) as error:
        raise InvalidQueryParameter(f"A time in the search is not valid: {error}") from error
    return cast(Document, orjson.loads(text))
