"""What goes wrong on purpose: errors, throttling, answers that are lost on the way."""

import threading
from dataclasses import dataclass

from tests.aws.fake_engines.clock import Clock


class AwsError(Exception):
    """An error that AWS answers with."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class LostAnswerError(Exception):
    """The connection is closed without an answer."""


@dataclass
class Fault:
    """An error for the next ``times`` calls of an operation."""

    operation: str
    error: Exception
    times: int
    after: bool
    """Whether the call takes effect all the same."""


@dataclass
class Throttle:
    """A token bucket: ``rate`` calls a second, ``burst`` at once."""

    rate: float
    burst: float
    tokens: float
    filled: float


class Faults:
    """The faults and limits of one fake."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._throttles: dict[str, Throttle] = {}
        self.throttled = 0
        """How many calls were throttled."""

    def add(self, operation: str, error: Exception, times: int = 1, *, after: bool = False) -> None:
        """Let the next ``times`` calls fail; with ``after`` they take effect first."""
        with self._lock:
            self._faults.append(Fault(operation, error, times, after))

    def throttle(self, operation: str, rate: float, burst: float = 1) -> None:
        """Refuse what goes beyond ``rate`` calls a second."""
        with self._lock:
            self._throttles[operation] = Throttle(rate, burst, burst, self._clock.now())

    def before(self, operation: str, throttled_code: str) -> None:
        """Raise what is to happen instead of a call."""
        self._raise(operation, after=False)
        with self._lock:
            bucket = self._throttles.get(operation)
            if bucket is None:
                return
            now = self._clock.now()
            bucket.tokens = min(bucket.burst, bucket.tokens + (now - bucket.filled) * bucket.rate)
            bucket.filled = now
            if bucket.tokens < 1:
                self.throttled += 1
                raise AwsError(throttled_code, "Rate exceeded")
            bucket.tokens -= 1

    def after(self, operation: str) -> None:
        """Raise what is to happen instead of an answer."""
        self._raise(operation, after=True)

    def _raise(self, operation: str, *, after: bool) -> None:
        with self._lock:
            for fault in self._faults:
                if fault.operation == operation and fault.after == after and fault.times > 0:
                    fault.times -= 1
                    raise fault.error
