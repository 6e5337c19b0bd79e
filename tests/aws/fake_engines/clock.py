"""The time of the fakes."""

import threading
import time
from typing import Protocol

_START = 1_790_000_000.0


class Clock(Protocol):
    """Seconds since 1970, as the fakes see it."""

    def now(self) -> float:
        """The time."""
        ...

    def advance(self, seconds: float) -> None:
        """Go forward."""
        ...


class ManualClock:
    """Stands still until it is moved; begins at ``start``."""

    def __init__(self, start: float = _START) -> None:
        self._now = start
        self._lock = threading.Lock()

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds


class RunningClock:
    """Runs ``speed`` times as fast as the clock on the wall."""

    def __init__(self, speed: float = 1.0) -> None:
        self._speed = speed
        self._begin = time.time()
        self._moved = 0.0

    def now(self) -> float:
        return self._begin + (time.time() - self._begin) * self._speed + self._moved

    def advance(self, seconds: float) -> None:
        self._moved += seconds
