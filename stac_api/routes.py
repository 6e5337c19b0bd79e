"""What the modules of the API answer, written down without a web framework.

Importing FastAPI takes longer than importing all of the API besides. So a module says here which
requests its functions answer; :mod:`stac_api.dispatch` serves them, and stac-fastapi's application,
which is made when it is first needed, describes them.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from starlette.responses import Response

Handler = Callable[..., Awaitable[Response]]
"""Takes the parameters of its path in their order, and then the request."""
_AnyHandler = TypeVar("_AnyHandler", bound=Handler)


@dataclass(frozen=True)
class Route:
    """One method of one path, and what the description says of it."""

    method: str
    path: str
    handler: Handler
    summary: str
    status_code: int
    tag: str | None
    """None for what the description leaves out."""


class Routes:
    """The routes of one module; ``tag`` is their heading in the description.

    Without a tag the description leaves them out.
    """

    def __init__(self, tag: str | None = None) -> None:
        self._tag = tag
        self._routes: list[Route] = []

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def get(self, path: str, summary: str = "") -> Callable[[_AnyHandler], _AnyHandler]:
        """What answers GET; HEAD is answered by it too, with its headers alone."""
        return self._adding("GET", path, summary, 200, self._tag)

    def head(self, path: str) -> Callable[[_AnyHandler], _AnyHandler]:
        """What answers HEAD, where that is less work than GET; the description has GET only."""
        return self._adding("HEAD", path, "", 200, None)

    def post(
        self, path: str, summary: str = "", status_code: int = 200
    ) -> Callable[[_AnyHandler], _AnyHandler]:
        """What answers POST."""
        return self._adding("POST", path, summary, status_code, self._tag)

    def put(
        self, path: str, summary: str = "", status_code: int = 200
    ) -> Callable[[_AnyHandler], _AnyHandler]:
        """What answers PUT."""
        return self._adding("PUT", path, summary, status_code, self._tag)

    def patch(self, path: str, summary: str = "") -> Callable[[_AnyHandler], _AnyHandler]:
        """What answers PATCH."""
        return self._adding("PATCH", path, summary, 200, self._tag)

    def delete(
        self, path: str, summary: str = "", status_code: int = 204
    ) -> Callable[[_AnyHandler], _AnyHandler]:
        """What answers DELETE."""
        return self._adding("DELETE", path, summary, status_code, self._tag)

    def _adding(
        self, method: str, path: str, summary: str, status_code: int, tag: str | None
    ) -> Callable[[_AnyHandler], _AnyHandler]:
        def add(handler: _AnyHandler) -> _AnyHandler:
            self._routes.append(Route(method, path, handler, summary, status_code, tag))
            return handler

        return add
