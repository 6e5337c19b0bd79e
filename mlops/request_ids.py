"""The id that follows a request: through its answer and log lines, the event that it caused, the
functions that handle the event, and the job that they start."""

import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

HEADER = "X-Request-Id"
_SANE = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._:=-]{0,127}\Z")
_current: ContextVar[str | None] = ContextVar("request_id", default=None)


def current() -> str | None:
    """The id of the request that is being worked on, or None outside of any."""
    return _current.get()


def accepted(given: str | None) -> str:
    """The id that a caller gave where it is fit for headers and logs, else a new one."""
    if given is not None and _SANE.match(given):
        return given
    # Not secret, but never the same: processes that begin as copies of one snapshot draw the same
    # numbers, and not in the same nanosecond.
    return f"{time.time_ns():016x}{random.getrandbits(64):016x}"


@contextmanager
def bound(request_id: str | None) -> Iterator[None]:
    """Work on a request: what is logged and sent in this block carries its id."""
    token = _current.set(request_id)
    try:
        yield
    finally:
        _current.reset(token)
