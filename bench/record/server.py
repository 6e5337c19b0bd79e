"""One server of the bench, in a process of its own: `server.py ours|stock|http PORT`.

All run under the same uvicorn with uvloop and httptools and log nothing. Their settings are in the
environment; the stock application is the one that its package makes, transactions enabled. `http`
answers every request with so many bytes as its path says, and does nothing else.
"""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn


async def answer_bytes(
    scope: dict[str, Any],
    _: Callable[[], Awaitable[Any]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """The least that a server can do: what is over of it in the others is theirs."""
    if scope["type"] != "http":
        return
    body = bytes(int(scope["path"][1:] or 0))
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    which, port = sys.argv[1], int(sys.argv[2])
    app: Any
    if which == "http":
        app = answer_bytes
    elif which == "ours":
        from stac_api.app import create_app
        from stac_api.settings import Settings

        app = create_app(Settings())  # type: ignore[call-arg]  # from the environment
    else:
        from stac_fastapi.pgstac.app import create_app as create_stock_app

        app = create_stock_app()
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
