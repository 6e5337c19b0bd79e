"""Times of observation: from band descriptions, the TIFF tag, or text."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_TIFF_FORMAT = "%Y:%m:%d %H:%M:%S"


@dataclass(frozen=True)
class Interval:
    """A closed interval of time, UTC; an instant where both ends are equal."""

    start: datetime
    end: datetime

    @classmethod
    def around(cls, intervals: Iterable["Interval"]) -> "Interval":
        """The smallest interval that holds all."""
        listed = list(intervals)
        return cls(min(i.start for i in listed), max(i.end for i in listed))


def parse_time(text: str) -> datetime:
    """Read an ISO 8601 date or time as UTC; ValueError when it is neither.

    >>> parse_time("2020-06-01T10:20:30Z").isoformat()
    '2020-06-01T10:20:30+00:00'
    """
    time = datetime.fromisoformat(text.strip())
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def parse_interval(text: str) -> Interval:
    """Read ``time`` or ``start/end``; an end that is a date is that day's last second.

    >>> parse_interval("2020-01-01/2020-12-31").end.isoformat()
    '2020-12-31T23:59:59+00:00'
    """
    first, slash, last = text.partition("/")
    start = parse_time(first)
    if not slash:
        return Interval(start, start)
    end = parse_time(last)
    if len(last.strip()) <= len("2020-12-31"):
        end += timedelta(days=1, seconds=-1)
    if end < start:
        raise ValueError(f"{text!r} ends before it starts")
    return Interval(start, end)


def times_of_bands(descriptions: Iterable[str | None]) -> list[datetime] | None:
    """The time of every band, or None when a description is no time."""
    times = []
    for description in descriptions:
        time = _time_or_none(description)
        if time is None:
            return None
        times.append(time)
    return times or None


def time_of_tag(value: str) -> datetime | None:
    """The time in a ``TIFFTAG_DATETIME`` (TIFF 6.0: ``YYYY:MM:DD HH:MM:SS``), taken as UTC."""
    try:
        return datetime.strptime(value.strip(), _TIFF_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return _time_or_none(value)


def _time_or_none(text: str | None) -> datetime | None:
    # fromisoformat takes "20" followed by anything numeric; a band called "B8" or "12" is no time.
    if not text or len(text.strip()) < len("20200101"):
        return None
    try:
        return parse_time(text)
    except ValueError:
        return None
