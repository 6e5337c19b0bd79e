"""HEAD wherever GET is."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stac_api.dispatch import Dispatch


class Heads:
    """Middleware: answers HEAD by what answers GET, where a path has nothing of its own for it.

    Stands outside of compression, so that the headers of HEAD are those of GET.
    """

    def __init__(self, app: ASGIApp, dispatch: Dispatch) -> None:
        self._app = app
        self._dispatch = dispatch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        if is_head and not self._dispatch.has_head(scope):
            # The body is made all the same: only so are its length and its ETag known.
            scope, send = {**scope, "method": "GET"}, _without_body(send)
        await self._app(scope, receive, send)


def _without_body(send: Send) -> Send:
    async def send_on(message: Message) -> None:
        if message["type"] != "http.response.body":
            await send(message)
        elif not message.get("more_body", False):
            await send({"type": "http.response.body"})

    return send_on
