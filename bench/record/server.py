"""One server of the bench, in a process of its own: `server.py ours|stock PORT`.

Both run under the same uvicorn with uvloop and httptools and log nothing. Their settings are in the
environment; the stock application is the one that its package makes, transactions enabled.
"""

import sys

import uvicorn


def main() -> None:
    which, port = sys.argv[1], int(sys.argv[2])
    if which == "ours":
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
