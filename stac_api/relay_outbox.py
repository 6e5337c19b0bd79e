"""AWS Lambda's entry point of the relay: committed changes go from the outbox to EventBridge.

Each item's events go in the order of their commits. A call of PutEvents keeps no order and may fail
in part, so two events of one item are never in one call, and what comes after an event that was
refused stays until that one is through. Rows are removed only after the bus has taken their events;
a crash in between sends them again.

While the bus is away the outbox is where events wait, for as long as it takes: the relay tells
itself to come again, so no message of its queue becomes a dead letter, and the age of the oldest
event is measured all the while.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import psycopg

from mlops.event_bridge import MOST_BYTES, MOST_ENTRIES, EventBridgeBus
from mlops.events import BusEvent
from stac_api.database import Database, database_of
from stac_api.logs import log_json
from stac_api.nudge import Nudge
from stac_api.outbox import Waiting, read_waiting, remove, seconds_of_oldest
from stac_api.settings import DatabaseSettings

logger = logging.getLogger(__name__)

# One relay at a time works on the outbox: two would overtake one another.
_LOCK = 4_711_008_816
_LOCK_PATIENCE = "20s"
_BATCH = 200
# What a relay does after it has been told to stop: finish its call and its transaction.
_MARGIN = 10.0
_PAUSE = 60
_METRIC = "OutboxOldestSeconds"


class Settings(DatabaseSettings):
    """Settings of the relay; from ``MLOPS_``-prefixed variables where not given."""

    api_url: str
    """Root of the STAC API as users see it: events link to it."""
    event_bus: str = "default"
    """Name of the EventBridge bus."""
    relay_queue_url: str | None = None
    """The relay's own queue, by which it tells itself to come again; without it, messages fail
    while the bus is away, and are delivered again as the queue has it."""


class WaitingError(Exception):
    """Some events wait still; the message says why. Those that the bus took are removed.

    ``pause`` is how many seconds to wait before the next try.
    """

    def __init__(self, message: str, pause: int) -> None:
        super().__init__(message)
        self.pause = pause


@dataclass
class _Pass:
    """What happened so far in one run over the outbox."""

    sent: int = 0
    refusals: dict[tuple[str, str], str] = field(default_factory=dict)
    """Why the bus did not take an event, by item: what comes after it waits, too."""
    away: str | None = None
    """Why the bus cannot be asked at all."""


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
            WaitingError: some of it waits still.
        """
        end = time.monotonic() + seconds
        with self._connect() as connection:
            try:
                return self._drain(connection, end)
            finally:
                report(seconds_of_oldest(connection))

    def _drain(self, connection: psycopg.Connection[Any], end: float) -> int:
        done = _Pass()
        while True:
            with connection.transaction():
                connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_PATIENCE}'")
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                rows = read_waiting(connection, self._api_url, done.refusals, _BATCH)
                remove(connection, self._hand_over(rows, done))
            if done.away is not None:
                raise WaitingError(f"the bus is away: {done.away}", _PAUSE)
            if len(rows) < _BATCH:
                break
            if time.monotonic() > end:
                raise WaitingError(f"the time is over after {done.sent} events", 0)
        if done.refusals:
            item, reason = next(iter(done.refusals.items()))
            raise WaitingError(
                f"events of {len(done.refusals)} items were refused by the bus, the first of "
                f"{'/'.join(item)}: {reason}",
                _PAUSE,
            )
        return done.sent

    def _hand_over(self, rows: Sequence[Waiting], done: _Pass) -> list[int]:
        """Publish in order per item; what is refused, and all after it, is left out."""
        from botocore.exceptions import BotoCoreError, ClientError

        taken: list[int] = []
        pending = list(rows)
        while pending:
            call, pending = next_call(pending, self._bus.size)
            try:
                answers = self._bus.publish_together([row.event for row in call])
            except (BotoCoreError, ClientError) as error:
                # What earlier calls of this transaction handed over is removed all the same.
                done.away = str(error)
                return taken
            for row, refusal in zip(call, answers, strict=True):
                if refusal is None:
                    taken.append(row.seq)
                    done.sent += 1
                else:
                    done.refusals[row.item] = refusal
            pending = [row for row in pending if row.item not in done.refusals]
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


class Entrance:
    """What the handler works with: the relay, and how it tells itself to come again."""

    def __init__(self, relay: Relay, nudge: Nudge | None) -> None:
        self._relay = relay
        self._nudge = nudge

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Relay. Any message of the queue means: look at the outbox, so one look answers for all
        of a batch."""
        seconds = context.get_remaining_time_in_millis() / 1000 - _MARGIN
        try:
            sent = self._relay.run(seconds, lambda age: report_age(age, context.function_name))
            logger.info("relayed", extra={"events": sent})
        except WaitingError as error:
            logger.error("events wait: %s", error)  # noqa: TRY400 - the message says all of it
            if self._nudge is None:
                return _all_failed(event)
            try:
                self._nudge.send(error.pause)
            except Exception:
                logger.exception("the relay could not tell itself to come again")
                return _all_failed(event)
        except Exception:
            logger.exception("the outbox could not be relayed")
            return _all_failed(event)
        return {"batchItemFailures": []}


def _all_failed(event: dict[str, Any]) -> dict[str, Any]:
    ids = [str(record["messageId"]) for record in event.get("Records", [])]
    return {"batchItemFailures": [{"itemIdentifier": one} for one in ids]}


@cache
def _from_environment() -> Entrance:
    # The environment gives what the signature demands.
    settings = Settings()  # type: ignore[call-arg]
    log_json("INFO")
    bus = EventBridgeBus(settings.event_bus)
    relay = Relay(database_of(settings), bus, settings.api_url)
    url = settings.relay_queue_url
    return Entrance(relay, None if url is None else Nudge(url))


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """AWS Lambda's entry point."""
    return _from_environment()(event, context)
