"""AWS Lambda's entry point of the relay: committed changes go from the outbox to EventBridge.

Each item's events go in the order of their commits. A call of PutEvents keeps no order and may fail
in part, so two events of one item are never in one call, and what comes after an event that was
refused stays until that one is through. Rows are removed only after the bus has taken their events;
a crash in between sends them again.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import psycopg
from pydantic_settings import SettingsConfigDict

from mlops.event_bridge import MOST_BYTES, MOST_ENTRIES, EventBridgeBus
from mlops.events import BusEvent
from stac_api.database import Database, database_of
from stac_api.observing import log_json
from stac_api.outbox import Waiting, read_waiting, remove, seconds_of_oldest
from stac_api.settings import DatabaseSettings

logger = logging.getLogger(__name__)

# One relay at a time works on the outbox: two would overtake one another.
_LOCK = 4_711_008_816
_LOCK_PATIENCE = "20s"
_BATCH = 200
# What a relay does after it has been told to stop: finish its call and its transaction.
_MARGIN = 10.0
_METRIC = "OutboxOldestSeconds"


class Settings(DatabaseSettings):
    """Settings of the relay; from ``MLOPS_``-prefixed variables where not given."""

    model_config = SettingsConfigDict(env_prefix="MLOPS_", extra="ignore", env_ignore_empty=True)

    api_url: str
    """Root of the STAC API as users see it: events link to it."""
    event_bus: str = "default"
    """Name of the EventBridge bus."""


class RefusedError(Exception):
    """The bus did not take all that waits; the message says why. What it took is removed."""


class Relay:
    """Relays the outbox of one database to one bus."""

    def __init__(self, database: Database, bus: EventBridgeBus, api_url: str) -> None:
        self._database = database
        self._bus = bus
        self._api_url = api_url

    def run(self, seconds: float, report: Callable[[float], None]) -> int:
        """Relay what waits, and return how many events the bus took; stop after ``seconds``.

        ``report`` is told how many seconds the oldest event waits that is left in the end.

        Raises:
            RefusedError: some of it waits still. So it does when the time is over.
        """
        end = time.monotonic() + seconds
        with self._connect() as connection:
            try:
                return self._drain(connection, end)
            finally:
                report(seconds_of_oldest(connection))

    def _drain(self, connection: psycopg.Connection[Any], end: float) -> int:
        sent = 0
        refusals: dict[tuple[str, str], str] = {}
        while True:
            with connection.transaction():
                connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_PATIENCE}'")
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                rows = read_waiting(connection, self._api_url, refusals, _BATCH)
                taken = self._hand_over(rows, refusals)
                remove(connection, taken)
            sent += len(taken)
            if len(rows) < _BATCH:
                break
            if time.monotonic() > end:
                raise RefusedError(f"the time is over after {sent} events; the rest is next")
        if refusals:
            item, reason = next(iter(refusals.items()))
            raise RefusedError(
                f"events of {len(refusals)} items were refused by the bus, the first of "
                f"{'/'.join(item)}: {reason}"
            )
        return sent

    def _hand_over(
        self, rows: Sequence[Waiting], refusals: dict[tuple[str, str], str]
    ) -> list[int]:
        """Publish in order per item; what is refused, and all after it, is left out."""
        taken = []
        pending = list(rows)
        while pending:
            call, pending = next_call(pending, self._bus.size)
            answers = self._bus.publish_together([row.event for row in call])
            for row, refusal in zip(call, answers, strict=True):
                if refusal is None:
                    taken.append(row.seq)
                else:
                    refusals[row.item] = refusal
            pending = [row for row in pending if row.item not in refusals]
        return taken

    def _connect(self) -> psycopg.Connection[Any]:
        try:
            return psycopg.connect(self._database.url(), autocommit=True)
        except psycopg.OperationalError:
            # libpq does not say which refusals are the password's, which may have been changed.
            if not self._database.refresh():
                raise
            return psycopg.connect(self._database.url(), autocommit=True)


def next_call(
    rows: Sequence[Waiting], size: Callable[[BusEvent], int]
) -> tuple[list[Waiting], list[Waiting]]:
    """Which rows go into the next call, and the rest in their order: the oldest event of each item,
    as many as a call takes in number and in bytes."""
    call: list[Waiting] = []
    rest: list[Waiting] = []
    seen: set[tuple[str, str]] = set()
    room = MOST_BYTES
    for row in rows:
        needed = size(row.event)
        # A first one that is too large all by itself goes alone, and is refused with the reason.
        fits = not call or (len(call) < MOST_ENTRIES and needed <= room)
        if fits and row.item not in seen:
            call.append(row)
            room -= needed
        else:
            rest.append(row)
        seen.add(row.item)
    return call, rest


def report_age(seconds: float, function: str) -> None:
    """Write the age of the oldest event that waits, as CloudWatch's embedded metric format.

    Method: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """
    metric = {"Name": _METRIC, "Unit": "Seconds", "StorageResolution": 60}
    line = {
        "_aws": {
            "Timestamp": time.time_ns() // 1_000_000,
            "CloudWatchMetrics": [
                {"Namespace": "mlops", "Dimensions": [["FunctionName"]], "Metrics": [metric]}
            ],
        },
        "FunctionName": function,
        _METRIC: round(seconds, 3),
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


@cache
def _from_environment() -> Relay:
    # The environment gives what the signature demands.
    settings = Settings()  # type: ignore[call-arg]
    log_json("INFO")
    return Relay(database_of(settings), EventBridgeBus(settings.event_bus), settings.api_url)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """AWS Lambda's entry point.

    Any message of the queue means: look at the outbox. One look answers for all of a batch; when
    something waits still, all of them come again.
    """
    seconds = context.get_remaining_time_in_millis() / 1000 - _MARGIN
    try:
        relay = _from_environment()
        sent = relay.run(seconds, lambda age: report_age(age, context.function_name))
    except Exception:
        logger.exception("the outbox could not be relayed")
        return {"batchItemFailures": [{"itemIdentifier": i} for i in _message_ids(event)]}
    logger.info("relayed", extra={"events": sent})
    return {"batchItemFailures": []}


def _message_ids(event: dict[str, Any]) -> Iterator[str]:
    for record in event.get("Records", []):
        yield str(record["messageId"])
