"""The API behind API Gateway: its handler with HTTP API events, against a real database."""

import base64
import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from mlops.identity import issue_job_token
from stac_api.aws_lambda import LambdaApi
from stac_api.settings import Settings
from tests.integration.conftest import dataset_item, run_item

DOMAIN = "abc123.execute-api.eu-central-1.amazonaws.com"
Call = Callable[..., dict[str, Any]]


def event(
    method: str,
    path: str,
    body: Any = None,
    *,
    content_type: str = "application/json",
    headers: dict[str, str] | None = None,
) -> dict[str, Any]:
    """What API Gateway sends for a request (payload format 2.0, stage $default)."""
    path, _, query = path.partition("?")
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {
            "host": DOMAIN,
            "x-forwarded-proto": "https",
            "x-forwarded-port": "443",
            "x-forwarded-for": "198.51.100.7",
            "content-type": content_type,
            **(headers or {}),
        },
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "abc123",
            "domainName": DOMAIN,
            "domainPrefix": "abc123",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "198.51.100.7",
                "userAgent": "tests",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "$default",
            "stage": "$default",
            "time": "12/Nov/2026:10:00:00 +0000",
            "timeEpoch": 1794477600000,
        },
        "body": None if body is None else json.dumps(body),
        "isBase64Encoded": False,
    }


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=SecretStr(database_url),
        storage=str(tmp_path / "store"),
        token_secret=SecretStr(secrets.token_hex(32)),
    )


@pytest.fixture
def api(settings: Settings) -> Iterator[LambdaApi]:
    api = LambdaApi(settings)
    yield api
    api.close()


def test_the_way_of_an_item(api: LambdaApi) -> None:
    assert api(event("POST", "/workspaces", {"id": "alps"}), None)["statusCode"] == 201
    items = "/collections/alps-training-data/items"
    posted = api(event("POST", items, dataset_item()), None)
    assert posted["statusCode"] == 201
    assert not posted["isBase64Encoded"], "API Gateway would be sent a third more"
    assert json.loads(posted["body"])["id"] == "fields-v1"
    read = api(event("GET", f"{items}/fields-v1"), None)
    assert read["headers"]["etag"] == posted["headers"]["etag"]
    unchanged = event(
        "GET", f"{items}/fields-v1", headers={"if-none-match": read["headers"]["etag"]}
    )
    assert api(unchanged, None)["statusCode"] == 304
    found = api(event("POST", "/search", {"ids": ["fields-v1"]}), None)
    assert [item["id"] for item in json.loads(body_of(found))["features"]] == ["fields-v1"]


def test_problems_are_passed_on(api: LambdaApi) -> None:
    answer = api(event("GET", "/collections/none", headers={"x-request-id": "sent"}), None)
    assert answer["statusCode"] == 404
    assert answer["headers"]["content-type"] == "application/problem+json"
    assert json.loads(answer["body"])["request_id"] == "sent" == answer["headers"]["x-request-id"]


def test_a_body_in_base64_is_understood(api: LambdaApi) -> None:
    encoded = event("POST", "/workspaces")
    encoded["body"] = base64.b64encode(b'{"id": "alps"}').decode()
    encoded["isBase64Encoded"] = True
    assert api(encoded, None)["statusCode"] == 201


def test_the_pool_lives_on_and_stale_connections_are_replaced(
    api: LambdaApi, settings: Settings
) -> None:
    def backends() -> list[int]:
        with psycopg.connect(settings.database_url.get_secret_value()) as connection:
            rows = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'stac-mlops'"
                " AND datname = current_database()"
            ).fetchall()
        return [pid for (pid,) in rows]

    health = event("GET", "/healthz")
    for _ in range(5):
        assert api(health, None)["statusCode"] == 200
    first = backends()
    assert len(first) == 1, "one event at a time needs one connection"
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", first)
    # As if the environment had slept: what it held open is not trusted any more.
    api._last -= 3600
    assert api(health, None)["statusCode"] == 200
    assert backends() != first


PROGRAM = """
import json, sys
import stac_api.aws_lambda as entry

told = []
for line in sys.stdin:
    status = entry.handler(json.loads(line), None)["statusCode"]
    told.append([status, "fastapi" in sys.modules])
print(json.dumps(told))
"""


def test_what_is_asked_for_most_needs_no_stac_fastapi(settings: Settings) -> None:
    runs = "/collections/alps-training-runs"
    run = f"{runs}/items/one"
    secret = settings.token_secret.get_secret_value()
    job = issue_job_token(secret, "alps-training-runs", "one", 1, lifetime=60)
    signed = {"headers": {"authorization": f"Bearer {job}"}}
    metrics = {"batch": "1", "attempt": 1, "points": [], "progress": 0.5}
    patch = {"content_type": "application/merge-patch+json"}
    asked = [
        (200, event("GET", "/")),
        (201, event("POST", "/workspaces", {"id": "alps"})),
        (201, event("POST", "/collections/alps-training-data/items", dataset_item())),
        (201, event("POST", f"{runs}/items", {**run_item(), "id": "one"})),
        (200, event("GET", run)),
        (200, event("HEAD", run)),
        (204, event("OPTIONS", run)),
        (405, event("POST", run, {})),
        (204, event("PATCH", run, {"properties": {"title": "t"}}, **patch)),
        (200, event("GET", "/search?filter=mlops:progress%20%3E%200")),
        (200, event("POST", "/search", {"collections": ["alps-training-runs"]})),
        (200, event("GET", f"{runs}/items?limit=1")),
        (204, event("POST", f"{run}/metrics", metrics, **signed)),
        (200, event("GET", f"{run}/metrics?since=0")),
        (200, event("GET", f"{run}/log")),
        (200, event("GET", "/collections")),
        (200, event("GET", runs)),
        (200, event("GET", "/healthz")),
        (404, event("GET", "/nowhere")),
        (204, event("OPTIONS", "/api")),
    ]
    lines = [json.dumps(one) for _, one in asked]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={
            "PYTHONPATH": ":".join(sys.path),
            "MLOPS_DATABASE_URL": settings.database_url.get_secret_value(),
            "MLOPS_STORAGE": settings.storage,
            "MLOPS_TOKEN_SECRET": secret,
        },
        input="\n".join([*lines, json.dumps(event("GET", "/api"))]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == [*([status, False] for status, _ in asked), [200, True]]


def test_nothing_is_read_when_the_module_is_imported() -> None:
    """Lambda imports before anything is configured: what is missing is told at the first call."""
    code = "import stac_api.aws_lambda as entry; entry.handler({}, None)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "storage" in result.stderr
    assert "ValidationError" in result.stderr


def body_of(answer: dict[str, Any]) -> str:
    if answer["isBase64Encoded"]:
        return base64.b64decode(answer["body"]).decode()
    return str(answer["body"])
