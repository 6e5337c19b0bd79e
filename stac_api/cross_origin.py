"""Pages of other origins (CORS): any may read, only those of named origins may write."""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

EXPOSED = (
    "Allow",
    "Content-Range",
    "ETag",
    "Link",
    "Location",
    "Preference-Applied",
    "Retry-After",
    "X-Next-Offset",
    "X-Request-Id",
)
"""Headers of answers that a page may see."""
_ASKED = (
    "Authorization",
    "If-Match",
    "If-None-Match",
    "Prefer",
    "Range",
    "X-Request-Id",
)
_ORIGIN = b"origin"
_VARY = (b"vary", b"Origin")
_READ = ("GET", "HEAD", "OPTIONS")
_WRITE = ("POST", "PUT", "PATCH", "DELETE")


class CrossOrigin:
    """Middleware: with ``*`` among the origins nobody writes in the name of who visits a page.

    A search by POST reads, so it is allowed wherever reading is.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        def policy(*methods: str) -> CORSMiddleware:
            return CORSMiddleware(
                app,
                allow_origins=origins,
                allow_methods=methods,
                allow_headers=_ASKED,
                expose_headers=EXPOSED,
                max_age=600,
            )

        self._app = app
        self._search = policy(*_READ, "POST")
        self._other = policy(*_READ) if "*" in origins else policy(*_READ, *_WRITE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "http" and all(name != _ORIGIN for name, _ in scope["headers"]):
            # Most are no page's: all that they are told is that a page would be told more.
            await self._app(scope, receive, _varying(send))
            return
        search = scope.get("root_path", "") + "/search"
        is_search = scope["type"] == "http" and scope["path"] == search
        await (self._search if is_search else self._other)(scope, receive, send)


def _varying(send: Send) -> Send:
    async def send_on(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), _VARY]
        await send(message)

    return send_on
