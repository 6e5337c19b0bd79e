"""HEAD wherever GET is, OPTIONS with ``Allow`` everywhere, and an ``Allow`` that is whole."""

from starlette.datastructures import MutableHeaders
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Methods:
    """Middleware: answers OPTIONS, and HEAD by the route of GET where a path has none of its own.

    Stands outside of compression, so that the headers of HEAD are those of GET.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["method"] == "OPTIONS" and (allowed := allowed_methods(scope)):
            headers = [(b"allow", ", ".join(allowed).encode())]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body"})
        elif scope["method"] == "HEAD" and not _is_routed(scope, "HEAD"):
            # The body is made all the same: only so are its length and its ETag known.
            asked = {**scope, "method": "GET"}
            await self._app(asked, receive, _without_body(_with_allow(scope, send)))
        else:
            await self._app(scope, receive, _with_allow(scope, send))


def allowed_methods(scope: Scope) -> list[str]:
    """The methods that the path of a request takes; none when there is nothing at the path."""
    found = [method for method in _METHODS if _is_routed(scope, method)]
    if "GET" in found:
        found.append("HEAD")
    return [*found, "OPTIONS"] if found else []


def _is_routed(scope: Scope, method: str) -> bool:
    asked = {**scope, "method": method}
    return any(route.matches(asked)[0] is Match.FULL for route in scope["app"].router.routes)


def _with_allow(scope: Scope, send: Send) -> Send:
    # One router knows one method of a path and another the next: each alone would name its own.
    async def send_on(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 405:
            headers = MutableHeaders(raw=message["headers"])
            headers["Allow"] = ", ".join(allowed_methods(scope))
        await send(message)

    return send_on


def _without_body(send: Send) -> Send:
    async def send_on(message: Message) -> None:
        if message["type"] != "http.response.body":
            await send(message)
        elif not message.get("more_body", False):
            await send({"type": "http.response.body"})

    return send_on
