"""The file through which a training script tells the agent its metrics and its progress.

One JSON object a line, appended: ``{"name", "step", "value"}`` with an optional ``"time"`` (ISO
8601, UTC), or ``{"progress": 0..1}``. Values may be NaN or infinite, as JSON's numbers or as the
strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

# The API's limits: a batch with a line beyond them would be refused as a whole.
_MAX_NAME = 128
_MAX_STEP = 2**63 - 1


class MetricLineError(ValueError):
    """A line that is neither a metric nor a progress."""


@dataclass(frozen=True)
class Point:
    """One value of a metric."""

    name: str
    step: int
    time: datetime
    value: float

    def to_json(self) -> dict[str, Any]:
        """The point as the API takes it: a value that JSON has no number for is a string."""
        return {
            "name": self.name,
            "step": self.step,
            "time": self.time.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "value": spelled(self.value),
        }


class MetricsWriter:
    """Appends metrics to the file; each call is one write, so a reader never sees it half."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def log(self, step: int, values: Mapping[str, float], progress: float | None = None) -> None:
        """Record the value of each metric at ``step``, and how far the training is (0..1)."""
        time = datetime.now(UTC)
        lines: list[dict[str, Any]] = [
            Point(name, step, time, float(value)).to_json() for name, value in values.items()
        ]
        if progress is not None:
            lines.append({"progress": progress})
        self._file.write("".join(json.dumps(line) + "\n" for line in lines).encode())


def parse_line(line: bytes) -> Point | float:
    """A line's point, or its progress; raises :class:`MetricLineError` saying what is wrong."""
    try:
        body = json.loads(line)
    except ValueError as error:
        raise MetricLineError(f"it is not JSON ({error})") from error
    if not isinstance(body, dict):
        raise MetricLineError("it is not a JSON object")
    if "progress" in body and "name" not in body:
        progress = _number(body["progress"], "progress")
        if not 0 <= progress <= 1:
            raise MetricLineError("progress must lie between 0 and 1")
        return progress
    return Point(_name(body), _step(body), _time(body), _number(body.get("value"), "value"))


def spelled(value: float) -> float | str:
    """A value as JSON has it: NaN and infinities as strings."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _name(body: dict[str, Any]) -> str:
    name = body.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        raise MetricLineError(f"name must be printable text of 1 to {_MAX_NAME} characters")
    return name


def _step(body: dict[str, Any]) -> int:
    step = body.get("step", 0)
    if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step <= _MAX_STEP:
        raise MetricLineError("step must be a whole number, 0 or more")
    return step


def _time(body: dict[str, Any]) -> datetime:
    text = body.get("time")
    if text is None:
        return datetime.now(UTC)
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise MetricLineError("time must be ISO 8601 text") from error
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise MetricLineError(f"{what} must be a number")
    try:
        return float(value)
    except (ValueError, OverflowError) as error:
        raise MetricLineError(f"{what} must be a number") from error
