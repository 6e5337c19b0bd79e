"""Runs a search: one statement for most pages, its rows taken as text."""

import json
from typing import Any, NamedTuple

import asyncpg
import orjson

from stac_api.documents import Document
from stac_api.hrefs import ROOT, render
from stac_api.search.cql2 import Compiler
from stac_api.search.request import SearchRequest
from stac_api.search.sorting import (
    Key,
    Segment,
    Token,
    after,
    order_by,
    read_token,
    segments,
)
from stac_api.search.spatial import envelope, geometry, related
from stac_api.search.statement import Argument, Arguments


class Page(NamedTuple):
    """A page of items, each as JSON; ``matched`` where it was counted or is plain to see."""

    items: list[bytes]
    next: str | None
    previous: str | None
    matched: int | None


async def run(connection: asyncpg.Connection, request: SearchRequest, table: str) -> Page:
    """The page that ``request`` asks for, of the items in a table."""
    keys = request.keys
    token = read_token(request.token, keys) if request.token is not None else None
    rows = await _rows(connection, request, table, token)
    more = len(rows) > request.limit
    rows = rows[: request.limit]
    backwards = token is not None and token.backwards
    if backwards:
        rows.reverse()
    has_next, has_previous = (True, more) if backwards else (more, token is not None)
    page = Page(
        items=[row["item"] for row in rows],
        next=_token(rows[-1], keys, backwards=False) if rows and has_next else None,
        previous=_token(rows[0], keys, backwards=True) if rows and has_previous else None,
        matched=len(rows) if token is None and not more else None,
    )
    if page.matched is None and request.limit == 1 and token is None:
        # How clients ask for the number alone; on other pages it would cost more than the page.
        number = await _count(connection, request, table)
        return Page(page.items, page.next, page.previous, number)
    return page


async def _rows(
    connection: asyncpg.Connection, request: SearchRequest, table: str, token: Token | None
) -> list[Any]:
    rows: list[Any] = []
    wanted = request.limit + 1
    for segment in segments(request.keys, token):
        text, values = _statement(request, table, segment, token, wanted)
        rows += await connection.fetch(text, *values)
        wanted = request.limit + 1 - len(rows)
        if wanted <= 0:
            break
    return rows


def _is_first(segment: Segment, token: Token) -> bool:
    """Whether the token lies in this part; parts after it are read from their beginning."""
    return segment.condition == "true" or segment.first_is_null is (token.values[0] is None)


def _statement(
    request: SearchRequest, table: str, segment: Segment, token: Token | None, wanted: int
) -> tuple[str, list[Argument]]:
    """What finds the wanted number of items of a part; kept for who asks the same again."""
    begins = wanted > request.limit
    if begins and (table, segment) in request.statements:
        return request.statements[table, segment]
    keys = request.keys
    arguments = Arguments()
    conditions = [*conditions_of(request, arguments), segment.condition]
    if begins and token is not None and _is_first(segment, token):
        conditions.append(after(keys, segment, token, arguments))
    backwards = token is not None and token.backwards
    values = ", ".join(f"{key.text} AS key{n}" for n, key in enumerate(keys))
    # Built of constants and checked names; every value is an argument.
    statement = (
        f"SELECT mlops.document_json(i) AS item, {values} FROM {table} i"  # noqa: S608
        f" WHERE {' AND '.join(conditions)}"
        f" ORDER BY {order_by(keys, segment, backwards=backwards)} LIMIT {int(wanted)}"
    )
    if begins:
        request.statements[table, segment] = statement, arguments.values
    return statement, arguments.values


async def _count(connection: asyncpg.Connection, request: SearchRequest, table: str) -> int:
    arguments = Arguments()
    conditions = " AND ".join(conditions_of(request, arguments)) or "true"
    statement = f"SELECT count(*) FROM {table} i WHERE {conditions}"  # noqa: S608
    return int(await connection.fetchval(statement, *arguments.values))


def conditions_of(request: SearchRequest, arguments: Arguments) -> list[str]:
    """What the items must fulfil; all values are arguments."""
    conditions = []
    for column, values in (("collection", request.collections), ("id", request.ids)):
        if len(values) == 1:
            conditions.append(f"i.{column} = {arguments.add(values[0], 'text')}")
        elif values:
            conditions.append(f"i.{column} = ANY({arguments.add(list(values), 'text[]')})")
    if request.bbox is not None:
        box = envelope(arguments, request.bbox, "/bbox")
        conditions.append(related("s_intersects", "i.geometry", box))
    if request.intersects is not None:
        shape = geometry(arguments, request.intersects, "/intersects")
        conditions.append(related("s_intersects", "i.geometry", shape))
    if request.interval is not None:
        start, end = request.interval
        if end is not None:
            conditions.append(f"i.datetime <= {arguments.add(end, 'text::timestamptz')}")
        if start is not None:
            conditions.append(f"i.end_datetime >= {arguments.add(start, 'text::timestamptz')}")
    if request.free_text:
        words = arguments.json(list(request.free_text))
        conditions.append(f"mlops.words(i.content) @@ mlops.wanted_words({words})")
    compiler = Compiler(arguments)
    return conditions + [compiler.compile(filter_) for filter_ in request.filters]


def _token(row: Any, keys: list[Key], *, backwards: bool) -> str:
    values = [row[f"key{n}"] for n in range(len(keys))]
    if any(value is None for value in values):
        document = _as_written(row["item"])
        values = [
            key.value_in(document) if value is None else value
            for key, value in zip(keys, values, strict=True)
        ]
    return Token(tuple(values), backwards).encode()


def _as_written(item: bytes) -> Document:
    """An item with its numbers as the database writes them: a double would not hold all of them."""
    parsed: Document = json.loads(
        render(item, ROOT), parse_float=_number_as_written, parse_int=_number_as_written
    )
    return parsed


def _number_as_written(text: str) -> orjson.Fragment:
    return orjson.Fragment(text)
