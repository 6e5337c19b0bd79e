"""The id that follows a request: through its answer and log lines, the event that it caused, the
functions that handle the event, and the job that they start."""

import random
import re
import time
from contextvars import ContextVar, Token
from types import TracebackType

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


class bound:  # noqa: N801 - read as the verb that it is, like contextlib's own
    """Work on a request: what is logged and sent in this block carries its id."""

    __slots__ = ("_request_id", "_token")
    _token: Token[str | None]

    def __init__(self, request_id: str | None) -> None:
        self._request_id = request_id

    def __enter__(self) -> None:
        self._token = _current.set(self._request_id)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _current.reset(self._token)
