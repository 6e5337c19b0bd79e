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
        self._offset = 0

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
        history = self._api.read_metrics(self._collection, self._run, self._cursor)
        self._cursor = history["cursor"]
        if history["points"]:
            yield Measured(tuple(_point(point) for point in history["points"]))
        if self._log:
            text, self._offset = self._api.read_log(self._collection, self._run, self._offset)
            if text:
                yield Logged(text)
        if run.progress != self._progress:
            self._progress = run.progress
            yield Progressed(run.progress)


def _point(point: dict[str, object]) -> MetricPoint:
    value = point["value"]
    return MetricPoint(
        name=str(point["name"]),
        step=int(str(point["step"])),
        time=datetime.fromisoformat(str(point["time"])),
        # The API spells what JSON cannot as "NaN", "Infinity" and "-Infinity"; float reads these.
        value=math.nan if value is None else float(str(value)),
    )
