"""Compressed answers (gzip), for who accepts them."""

import re

from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ACCEPTED = b"accept-encoding"
_VARY = (b"vary", b"Accept-Encoding")
_LEAST_BYTES = 1400
# "gzip;q=0" says: anything but gzip (RFC 9110, section 12.4.2).
_GZIP = re.compile(rb"(?:\A|,)\s*gzip\s*(?!;\s*[qQ]=0(?:\.0*)?\s*(?:,|\Z))(?:;|,|\Z)")
# Files are packed already, or too large to pack for each who reads them; and who reads a part of
# one must get the bytes that its length counts.
_AS_THEY_ARE = (*DEFAULT_EXCLUDED_CONTENT_TYPES, "application/octet-stream")


class Compression:
    """Middleware: Starlette's for who accepts gzip; the others are told that there are two forms.

    Starlette's takes a tenth of the time of a read to find out that there is nothing to compress.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._compressing = GZipMiddleware(
            app, minimum_size=_LEAST_BYTES, compresslevel=1, exclude_content_types=_AS_THEY_ARE
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        for name, value in scope["headers"]:
            if name == _ACCEPTED and b"gzip" in value and _GZIP.search(value):
                await self._compressing(scope, receive, send)
                return

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), _VARY]
            await send(message)

        await self._app(scope, receive, send_on)
