"""Following a run: what happens to it, as a stream of typed updates."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from mlops.api import Api
from mlops.items.status import Status
from mlops.sdk.records import Run


@dataclass(frozen=True)
class MetricPoint:
    """A metric's value at a step; ``value`` may be NaN or infinite."""

    name: str
    step: int
    time: datetime
    value: float


@dataclass(frozen=True)
class StatusChanged:
    """The run has a status that was not seen before; the last one is terminal."""

    status: Status
    run: Run


@dataclass(frozen=True)
class Progressed:
    """How much of the run is done, 0..1."""

    progress: float


@dataclass(frozen=True)
class Measured:
    """New metric points, in the order in which they arrived."""

    points: tuple[MetricPoint, ...]


@dataclass(frozen=True)
class Logged:
    """New text of the run's log."""

    text: str


@dataclass
class LogPlace:
    """How far a log was read, in bytes."""

    offset: int = 0


RunUpdate = StatusChanged | Progressed | Measured | Logged


class Watch:
    """Reads what is new of a run at every turn. Everything that there was before comes first."""

    def __init__(self, api: Api, collection: str, run: str, *, log: bool) -> None:
        self._api = api
        self._collection = collection
        self._run = run
        self._log = log
        self._status: Status | None = None
        self._progress = 0.0
        self._cursor = 0
        self._place = LogPlace()

    def updates(self, interval: float) -> Iterator[RunUpdate]:
        """Updates until the run has ended, asking every ``interval`` seconds."""
        while True:
            run = Run.of(self._api.get_item(self._collection, self._run).item)
            if not run.status.is_terminal:
                yield from self._new_status(run)
            yield from self._new_content(run)
            if run.status.is_terminal:
                # Last, so that a reader who stops at the end has seen everything.
                yield from self._new_status(run)
                return
            time.sleep(interval)

    def _new_status(self, run: Run) -> Iterator[RunUpdate]:
        if run.status is not self._status:
            self._status = run.status
            yield StatusChanged(run.status, run)

    def _new_content(self, run: Run) -> Iterator[RunUpdate]:
        for points in self._new_points():
            yield Measured(points)
        if self._log:
            for text in log_from(self._api, self._collection, self._run, self._place):
                yield Logged(text)
        if run.progress != self._progress:
            self._progress = run.progress
            yield Progressed(run.progress)

    def _new_points(self) -> Iterator[tuple[MetricPoint, ...]]:
        """What was measured since the last turn, page after page."""
        while True:
            history = self._api.read_metrics(self._collection, self._run, self._cursor)
            if not history["points"]:
                return
            self._cursor = history["cursor"]
            yield tuple(_point(point) for point in history["points"])


def log_from(api: Api, collection: str, run: str, place: LogPlace) -> Iterator[str]:
    """A run's log from ``place`` on, piece after piece; ``place`` moves along."""
    while True:
        text, offset = api.read_log(collection, run, place.offset)
        if offset == place.offset:
            return
        place.offset = offset
        yield text


def _point(point: dict[str, object]) -> MetricPoint:
    value = point["value"]
    return MetricPoint(
        name=str(point["name"]),
        step=int(str(point["step"])),
        time=datetime.fromisoformat(str(point["time"])),
        # The API spells what JSON cannot as "NaN", "Infinity" and "-Infinity"; float reads these.
        value=math.nan if value is None else float(str(value)),
    )
