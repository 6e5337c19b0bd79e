"""Compressed answers (gzip), for who accepts them."""

from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ACCEPTED = b"accept-encoding"
_VARY = (b"vary", b"Accept-Encoding")
_LEAST_BYTES = 1400


class Compression:
    """Middleware: Starlette's for who accepts gzip; the others are told that there are two forms.

    Starlette's takes a tenth of the time of a read to find out that there is nothing to compress.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._compressing = GZipMiddleware(app, minimum_size=_LEAST_BYTES, compresslevel=1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        for name, value in scope["headers"]:
            if name == _ACCEPTED and b"gzip" in value:
                await self._compressing(scope, receive, send)
                return

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), _VARY]
            await send(message)

        await self._app(scope, receive, send_on)
