"""Where the API answers with a place in the object store, that is not told who we are."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from functions.services import SystemAuth
from mlops.api import Api, NotFoundError
from mlops.signing import TOKEN_HEADER, SignedAuth


class Server:
    """Redirects ``/assets/moved`` to ``target``, and keeps the headers of every request."""

    def __init__(self, target: str | None = None) -> None:
        self.seen: list[dict[str, str]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.seen.append({name.lower(): value for name, value in self.headers.items()})
                moved = self.path == "/assets/moved"
                if self.path == "/assets/none":
                    self.send_error(404)
                    return
                self.send_response(307 if moved else 200)
                if moved:
                    self.send_header("Location", f"{target}/object?X-Amz-Signature=x")
                self.end_headers()
                if not moved:
                    self.wfile.write(b"bytes")

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Silent."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, Server]]:
    """The API, and the store that it leads to."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    store = Server()
    api = Server(store.url)
    yield api, store
    for server in (api, store):
        server.http.shutdown()
        server.http.server_close()


@pytest.mark.parametrize("door", ["token", "system", "signed"])
def test_the_store_learns_no_secret(
    servers: tuple[Server, Server], tmp_path: Path, door: str
) -> None:
    api, store = servers
    secret = SecretStr("x" * 32)
    auth = {
        "token": None,
        "system": SystemAuth(secret),
        "signed": SignedAuth(api.url, lambda: "token", region="eu-central-1"),
    }[door]
    token = "user" if door == "token" else None
    with Api(api.url, token, auth=auth, patience=0) as client:
        client.download(f"{api.url}/assets/moved", tmp_path / "moved")
        client.download(f"{api.url}/assets/here", tmp_path / "here")
        with pytest.raises(NotFoundError):
            client.download(f"{api.url}/assets/none", tmp_path / "none")
    assert (tmp_path / "moved").read_bytes() == (tmp_path / "here").read_bytes() == b"bytes"
    assert not (tmp_path / "none").exists()
    assert len(store.seen) == 1
    assert all("authorization" in headers for headers in api.seen)
    assert not {"authorization", TOKEN_HEADER.lower(), "x-amz-security-token", "x-amz-date"} & set(
        store.seen[0]
    )
