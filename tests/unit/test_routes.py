"""What answers which request, on both sides of the seam to stac-fastapi's application."""

import asyncio
import inspect
import re
import subprocess
import sys
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette

from stac_api import app as app_module
from stac_api import catalogue
from stac_api.app import create_app
from stac_api.conformance import CONFORMANCE_CLASSES
from stac_api.routes import Route
from stac_api.settings import Settings

ITEM = "/collections/c/items/i"
# What importing the API must not bring along: together they take longer than all the rest.
HEAVY = {
    "attr",
    "cql2",
    "fastapi",
    "geojson_pydantic",
    "jsonschema_rs",
    "pydantic_settings",
    "stac_fastapi",
    "stac_pydantic",
}
ROUTES: list[Route] = [
    route for module in (*app_module._SERVED, *app_module._PASSED_ON) for route in module.router
]


def settings(**more: Any) -> Settings:
    return Settings(
        database_url=SecretStr("postgresql://nowhere.invalid/none"),
        storage="unused",
        token_secret=SecretStr("x" * 64),
        **more,
    )


@pytest.fixture
def app() -> Starlette:
    """The application before its lifespan: without a database."""
    return create_app(settings())


def ask(app: Starlette, method: str, url: str, **more: Any) -> httpx.Response:
    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
            return await client.request(method, url, **more)

    return asyncio.run(answer())


@pytest.mark.parametrize("module", ["stac_api.aws_lambda", "stac_api.relay_outbox"])
def test_entry_points_of_lambda_import_little(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not HEAVY & set(done.stdout.split())


def test_the_description_and_what_is_served_are_one(app: Starlette) -> None:
    described = {
        (path, method.upper())
        for path, operations in app.state.frame.describe()["paths"].items()
        for method in operations
    }
    assert described == {
        (re.sub(r":path}", "}", route.path), route.method) for route in ROUTES if route.tag
    }
    for path, method in described:
        allowed = ask(app, "OPTIONS", re.sub(r"{\w+}", "x", path)).headers["Allow"]
        assert method in allowed.split(", "), path


def test_no_two_routes_are_alike() -> None:
    places = [(re.sub(r"{\w+", "{", route.path), route.method) for route in ROUTES]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_functions_take_the_parameters_of_their_paths_in_order(route: Route) -> None:
    *taken, _ = inspect.signature(route.handler).parameters
    assert taken == re.findall(r"{(\w+)", route.path)


def test_stac_fastapi_registers_what_the_landing_page_says(app: Starlette) -> None:
    conforms_to = ask(app, "GET", "/conformance").json()["conformsTo"]
    assert conforms_to == list(CONFORMANCE_CLASSES)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (ITEM, "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"),
        ("/search", "GET, POST, HEAD, OPTIONS"),
        ("/collections/c/bulk_items", "POST, OPTIONS"),
        ("/assets/w/models/a/b.onnx", "GET, PUT, HEAD, OPTIONS"),
        ("/recipes", "GET, HEAD, OPTIONS"),
        ("/api", "GET, HEAD, OPTIONS"),
        ("/collections/c/queryables", "GET, HEAD, OPTIONS"),
    ],
)
def test_methods_on_both_sides(app: Starlette, path: str, allowed: str) -> None:
    options = ask(app, "OPTIONS", path)
    assert (options.status_code, options.headers["Allow"]) == (204, allowed)
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"):
        if method not in allowed:
            refused = ask(app, method, path)
            assert (refused.status_code, refused.headers["Allow"]) == (405, allowed)
            assert refused.headers["Content-Type"] == "application/problem+json"
            assert refused.json()["instance"] == path


@pytest.mark.parametrize(
    "path", ["/none", "/collections/c/none", "/collections//items/i", "/search/x", "//search", "/a"]
)
def test_nothing_is_there(app: Starlette, path: str) -> None:
    for method in ("GET", "OPTIONS", "HEAD", "POST"):
        answer = ask(app, method, f"http://api.test{path}")
        assert answer.status_code == 404
        assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/recipes", "/search", "/collections/c/queryables"])
def test_a_slash_too_many_is_redirected(app: Starlette, path: str) -> None:
    answer = ask(app, "GET", f"{path}/?a=b")
    assert (answer.status_code, answer.headers["Location"]) == (307, f"http://api.test{path}?a=b")


@pytest.mark.parametrize("path", ["/recipes", "/conformance", "/api", "/api.html", "/healthz/live"])
def test_head_is_get_without_its_body(app: Starlette, path: str) -> None:
    got, headed = ask(app, "GET", path), ask(app, "HEAD", path)
    assert got.status_code == headed.status_code == 200
    assert headed.content == b""
    for name in ("Content-Type", "Content-Length", "Content-Encoding", "Vary"):
        assert got.headers.get(name) == headed.headers.get(name)


def test_a_prefix_holds_on_both_sides() -> None:
    app = create_app(settings(root_path="/stac"))
    for path in ("/api", "/stac/api"):
        assert ask(app, "GET", path).json()["servers"] == [{"url": "http://api.test/stac"}]
    assert ask(app, "GET", "/stac/healthz/live").status_code == 200


def test_who_accepts_no_gzip_gets_none(app: Starlette) -> None:
    plain = ask(app, "GET", "/api", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert plain.headers["Vary"] == "Accept-Encoding, Origin"
    packed = ask(app, "GET", "/api", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.headers["Vary"] == "Accept-Encoding, Origin"
    assert packed.json() == plain.json()


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip;q=0", None),
        ("gzip;q=0.000, identity", None),
        ("br, gzip ; q=0", None),
        ("identity;q=0, gzip", "gzip"),
        ("br;q=1.0, gzip;q=0.001", "gzip"),
        ("*;q=0", None),
    ],
)
def test_what_is_accepted_is_weighed(app: Starlette, accepted: str, coding: str | None) -> None:
    answer = ask(app, "GET", "/api", headers={"Accept-Encoding": accepted})
    assert answer.headers.get("Content-Encoding") == coding
    assert answer.headers["Vary"] == "Accept-Encoding, Origin"


def test_a_failure_behind_the_seam_is_told_once(
    app: Starlette, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(catalogue, "RECIPES", None)
    answer = ask(app, "GET", "/recipes", headers={"X-Request-Id": "mine"})
    assert answer.status_code == 500
    assert answer.headers.get_list("X-Request-Id") == ["mine"]
    assert answer.json()["request_id"] == "mine"
    unexpected = [r for r in caplog.records if r.getMessage().startswith("unexpected error")]
    assert len(unexpected) == 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_failure_can_be_read_by_pages_of_other_origins(
    app: Starlette, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(catalogue, "RECIPES", None)
    answer = ask(app, method, "/recipes", headers={"Origin": "https://browser.example"})
    assert answer.status_code == 500
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert bool(answer.content) == (method == "GET")


def test_who_is_cut_short_by_a_shutdown_is_told_to_come_again(app: Starlette) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        # The body never comes.
        await asyncio.Event().wait()

    async def stop_while_it_waits() -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/search",
            "query_string": b"",
            "headers": [(b"host", b"api.test"), (b"content-type", b"application/json")],
        }
        waiting = asyncio.create_task(app(scope, receive, send))
        await asyncio.sleep(0.05)
        assert not sent
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(stop_while_it_waits())
    start, body = sent
    assert start["status"] == 503
    headers = dict(start["headers"])
    assert int(headers[b"retry-after"]) > 0
    assert headers[b"content-type"] == b"application/problem+json"
    assert b"send the request again" in body["body"]


@pytest.mark.parametrize(
    ("method", "url", "faults"),
    [
        ("GET", f"{ITEM}/metrics?since=-1", {"/query/since": "greater than or equal to 0"}),
        ("GET", f"{ITEM}/metrics?since=x", {"/query/since": "valid integer"}),
        ("GET", f"{ITEM}/metrics?since=1.5", {"/query/since": "valid integer"}),
        ("GET", f"{ITEM}/log?offset=", {"/query/offset": "valid integer"}),
        ("GET", f"{ITEM}/log?offset={'9' * 5000}", {"/query/offset": "valid integer"}),
        ("POST", f"{ITEM}/log", {"/query/attempt": "required", "/query/offset": "required"}),
        ("POST", f"{ITEM}/log?attempt=0&offset=0", {"/query/attempt": "greater than"}),
        ("DELETE", "/collections/c?force=perhaps", {"/query/force": "valid boolean"}),
    ],
)
def test_parameters_are_refused(
    app: Starlette, method: str, url: str, faults: dict[str, str]
) -> None:
    answer = ask(app, method, url)
    assert answer.status_code == 400
    problem = answer.json()
    assert problem["detail"].startswith("The request is not valid: query.")
    told = {fault["pointer"]: fault["detail"] for fault in problem["errors"]}
    assert told.keys() == faults.keys()
    for place, detail in faults.items():
        assert detail in told[place]
