"""What a job tells of itself while it runs: metrics, log and heartbeat, beside pgstac.

Metrics keep their whole history here; the item holds the last finite value of each, so it stays
small and searchable.
"""

import logging
import math
from datetime import datetime
from typing import Annotated, Any

import asyncpg
import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from mlops.identity import Principal, Role
from mlops.items.kinds import Kind
from stac_api import records
from stac_api.access import require_job_or_system
from stac_api.documents import Document, read_body, read_document, require_type
from stac_api.parameters import Parameters
from stac_api.problems import Problem, faults_of, invalid, not_found
from stac_api.routes import Routes
from stac_api.rules import now
from stac_api.rules.training_run import room_of, status_of
from stac_api.settings import Settings
from stac_api.validation import parse_time

logger = logging.getLogger(__name__)

router = Routes("Tracking")

_METRICS = "/collections/{collection_id}/items/{item_id}/metrics"
_LOG = "/collections/{collection_id}/items/{item_id}/log"
_MAX_BATCH_BYTES = 1 << 20
_MAX_LOG_BYTES = 1 << 20
_PAGE = 10_000
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def _number(value: object) -> object:
    if isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    if isinstance(value, bool | str):
        raise ValueError("must be a number, or NaN, Infinity or -Infinity as a text")  # noqa: TRY004 - what pydantic reports
    return value


class Point(BaseModel):
    """One value of a metric; NaN and the infinities as JSON strings."""

    # Built when it is first used: a process that starts to answer reads does without.
    model_config = ConfigDict(extra="forbid", defer_build=True)

    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f]+$")]
    step: Annotated[int, Field(ge=0, lt=2**63)]
    time: Annotated[datetime, BeforeValidator(parse_time)]
    value: Annotated[float, BeforeValidator(_number)]


class Batch(BaseModel):
    """Points that were sent together; the same batch twice counts once."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    batch: Annotated[str, Field(min_length=1, max_length=128)]
    attempt: Annotated[int, Field(ge=1)]
    points: Annotated[list[Point], Field(max_length=20_000)]
    progress: Annotated[float, Field(ge=0, le=1)] | None = None


@router.post(_METRICS, status_code=204, summary="Send metrics, or a heartbeat")
async def send_metrics(collection_id: str, item_id: str, request: Request) -> Response:
    """Store a batch of metrics and note that the job lives; no points is a heartbeat."""
    principal = require_job_or_system(request, collection_id, item_id)
    body = await read_document(request, _MAX_BATCH_BYTES)
    try:
        batch = Batch.model_validate(body)
    except ValidationError as error:
        raise invalid("The batch of metrics is not valid.", *faults_of(error)) from error
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        if batch.points or batch.progress is not None:
            room = room_of(request.app.state.settings_mlops)
            await _store_batch(connection, principal, collection_id, item_id, batch, room)
        else:
            attempt = await _current_attempt(connection, collection_id, item_id)
            _require_attempt(batch.attempt, attempt)
        await connection.execute(_HEARTBEAT, collection_id, item_id, batch.attempt)
    return Response(status_code=204)


@router.get(_METRICS, summary="Read the history of a run's metrics")
async def read_metrics(collection_id: str, item_id: str, request: Request) -> Response:
    """Points after the cursor ``since``, in the order they came, and the next cursor."""
    parameters = Parameters(request)
    since = parameters.number("since", at_least=0, default=0)
    parameters.check()
    async with request.app.state.pool.acquire() as connection:
        await _require_run(connection, collection_id, item_id)
        rows = await connection.fetch(_READ_METRICS, collection_id, item_id, since, _PAGE)
    points = [
        {
            "name": row["name"],
            "step": row["step"],
            "time": row["time"].isoformat().replace("+00:00", "Z"),
            "value": _json_number(row["value"]),
            "attempt": row["attempt"],
        }
        for row in rows
    ]
    cursor = rows[-1]["seq"] if rows else since
    return Response(
        orjson.dumps({"points": points, "cursor": cursor}), media_type="application/json"
    )


@router.post(_LOG, status_code=204, summary="Append to a run's log")
async def append_log(collection_id: str, item_id: str, request: Request) -> Response:
    """Append a piece of log that starts at byte ``offset``; bytes that are there count once.

    ``X-Next-Offset`` is where the attempt's log then ends.
    """
    parameters = Parameters(request)
    attempt = parameters.number("attempt", at_least=1)
    offset = parameters.number("offset", at_least=0)
    parameters.check()
    require_job_or_system(request, collection_id, item_id)
    require_type(request, frozenset({"text/plain", "application/octet-stream"}))
    content = await read_body(request, _MAX_LOG_BYTES)
    settings: Settings = request.app.state.settings_mlops
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        _require_attempt(attempt, await _current_attempt(connection, collection_id, item_id))
        # One writer at a time: two copies of a piece must not both find the end at the same byte.
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
            f"mlops.log:{collection_id}/{item_id}",
        )
        end = await connection.fetchval(_LOG_END, collection_id, item_id, attempt)
        if end >= settings.max_log_bytes:
            # Only the live view is bounded: the whole log becomes an asset when the run ends.
            return Response(status_code=204, headers={"X-Next-Offset": str(end)})
        if offset > end:
            raise Problem(409, f"The log ends at byte {end}: send what lies between first.")
        fresh = content[end - offset :]
        if fresh:
            await connection.execute(_ADD_LOG, collection_id, item_id, attempt, end, fresh)
    return Response(status_code=204, headers={"X-Next-Offset": str(end + len(fresh))})


@router.get(_LOG, summary="Read a run's log")
async def read_log(collection_id: str, item_id: str, request: Request) -> Response:
    """The log of the latest attempt from byte ``offset`` on; ``X-Next-Offset`` is its end."""
    parameters = Parameters(request)
    offset = parameters.number("offset", at_least=0, default=0)
    parameters.check()
    async with request.app.state.pool.acquire() as connection:
        await _require_run(connection, collection_id, item_id)
        rows = await connection.fetch(_READ_LOG, collection_id, item_id, offset)
    content = b"".join(row["content"] for row in rows)
    if rows:
        content = content[max(0, offset - rows[0]["start"]) :]
    headers = {"X-Next-Offset": str(offset + len(content))}
    return Response(content, headers=headers, media_type="text/plain; charset=utf-8")


async def _store_batch(
    connection: asyncpg.Connection,
    principal: Principal,
    collection: str,
    item: str,
    batch: Batch,
    room: int,
) -> None:
    place = await records.place_of(connection, collection, writing=True)
    stored = await records.lock_item(connection, collection, item)
    if stored is None:
        raise not_found(f"Item {item} in collection {collection}")
    document = stored.document
    properties = document["properties"]
    _require_attempt(batch.attempt, properties.get("mlops:attempt"))
    if principal.role is Role.JOB and status_of(document).is_terminal:
        raise Problem(409, "The run has ended; its job has nothing more to say.")
    first = await connection.fetchval(_ADD_BATCH, collection, item, batch.batch)
    if first is None:
        return
    await connection.executemany(
        _ADD_POINT,
        [(collection, item, batch.attempt, p.name, p.step, p.time, p.value) for p in batch.points],
    )
    _update_last_values(document, batch, room)
    properties["updated"] = now()
    await records.update_item(connection, place, document)


def _update_last_values(document: Document, batch: Batch, room: int) -> None:
    properties = document["properties"]
    known: dict[str, float] = properties.get("mlops:metrics") or {}
    # A value that is not finite is no JSON number: it stays in the history.
    fresh = {p.name: p.value for p in batch.points if math.isfinite(p.value)}
    if known or fresh:
        properties["mlops:metrics"] = known | fresh
    if len(orjson.dumps(document)) > room:
        # A run is not ended for the number of its metrics, and its item can be written further.
        logger.warning("run %s has too many metrics for its item: no more names", document["id"])
        properties["mlops:metrics"] = known | {n: fresh[n] for n in fresh.keys() & known.keys()}
    if batch.progress is not None:
        properties["mlops:progress"] = max(batch.progress, properties.get("mlops:progress") or 0.0)


async def _current_attempt(connection: asyncpg.Connection, collection: str, item: str) -> int:
    attempt = await connection.fetchval(
        "SELECT (content->'properties'->>'mlops:attempt')::int FROM pgstac.items"
        # Who deletes the run waits until what is told of it is there, and deletes that too.
        " WHERE collection = $1 AND id = $2 FOR KEY SHARE",
        *(collection, item),
    )
    if attempt is None:
        raise not_found(f"Run {item} in collection {collection}")
    return int(attempt)


def _require_attempt(given: int, current: Any) -> None:
    if given != current:
        raise Problem(409, f"The run is at attempt {current}; this comes from attempt {given}.")


async def _require_run(connection: asyncpg.Connection, collection: str, item: str) -> None:
    place = await records.place_of(connection, collection)
    query = "SELECT EXISTS (SELECT FROM pgstac.items WHERE collection = $1 AND id = $2)"
    is_run = place.kind is Kind.TRAINING_RUN
    if not is_run or not await connection.fetchval(query, collection, item):
        raise not_found(f"Run {item} in collection {collection}")


def _json_number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


_HEARTBEAT = """
    INSERT INTO mlops.heartbeats (collection, item, attempt) VALUES ($1, $2, $3)
    ON CONFLICT (collection, item) DO UPDATE SET attempt = EXCLUDED.attempt, seen = now()
"""
_ADD_BATCH = """
    INSERT INTO mlops.metric_batches (collection, item, batch) VALUES ($1, $2, $3)
    ON CONFLICT DO NOTHING RETURNING 1
"""
_ADD_POINT = """
    INSERT INTO mlops.metrics (collection, item, attempt, name, step, time, value)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_READ_METRICS = """
    SELECT seq, attempt, name, step, time, value FROM mlops.metrics
    WHERE collection = $1 AND item = $2 AND seq > $3 ORDER BY seq LIMIT $4
"""
_LOG_END = """
    SELECT coalesce(max(start + length(content)), 0) FROM mlops.log_chunks
    WHERE collection = $1 AND item = $2 AND attempt = $3
"""
_ADD_LOG = """
    INSERT INTO mlops.log_chunks (collection, item, attempt, start, content)
    VALUES ($1, $2, $3, $4, $5)
"""
_READ_LOG = """
    SELECT start, content FROM mlops.log_chunks
    WHERE collection = $1 AND item = $2 AND start + length(content) > $3 AND attempt = (
        SELECT max(attempt) FROM mlops.log_chunks WHERE collection = $1 AND item = $2)
    ORDER BY start LIMIT 64
"""
