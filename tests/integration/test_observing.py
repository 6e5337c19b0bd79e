"""Request ids, from the request to the function and the job; health, and limits."""

import json
import logging
import re
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from mlops.api import Api
from stac_api.logs import AddRequestId, JsonLines
from stac_api.outbox import relay
from tests.conftest import ApiServer, serving
from tests.integration.conftest import run_item

RUNS = "/collections/alps-training-runs/items"


class TestRequestId:
    def test_of_the_caller_comes_back(self, api_server: ApiServer) -> None:
        answer = httpx.get(f"{api_server.url}/", headers={"X-Request-Id": "from-the-caller-1"})
        assert answer.headers["X-Request-Id"] == "from-the-caller-1"

    @pytest.mark.parametrize("given", [None, "", "a b", "x" * 129, "{evil}", "-begins", "a\tb"])
    def test_is_made_where_none_is_fit(self, api_server: ApiServer, given: str | None) -> None:
        headers = {} if given is None else {"X-Request-Id": given}
        answer = httpx.get(f"{api_server.url}/", headers=headers)
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-Id"])

    def test_is_in_the_problem(self, api_server: ApiServer) -> None:
        answer = httpx.get(
            f"{api_server.url}/collections/none", headers={"X-Request-Id": "looked-for"}
        )
        assert answer.status_code == 404
        assert answer.json()["request_id"] == "looked-for" == answer.headers["X-Request-Id"]

    def test_is_exposed_to_pages_of_others(self, api_server: ApiServer) -> None:
        answer = httpx.get(f"{api_server.url}/", headers={"Origin": "https://elsewhere.example"})
        assert "X-Request-Id" in answer.headers["Access-Control-Expose-Headers"]

    @pytest.mark.usefixtures("workspace")
    def test_follows_the_event(self, api_server: ApiServer) -> None:
        for request_id in ("first", None, "third"):
            headers = {"X-Request-Id": request_id} if request_id else {}
            answer = httpx.post(api_server.url + RUNS, json=run_item(), headers=headers)
            assert answer.status_code == 201, answer.text
        events: list[Any] = []
        database_url = api_server.settings.database_url.get_secret_value()
        with psycopg.connect(database_url, autocommit=True) as connection:
            relay(connection, events.extend, api_server.url)
        found = [e.record().request_id for e in events if e.detail_type == "run.accepted"]
        assert (found[0], found[2]) == ("first", "third")
        assert re.fullmatch("[0-9a-f]{32}", found[1])

    @pytest.mark.usefixtures("workspace")
    def test_of_a_writer_that_says_none(self, api_server: ApiServer) -> None:
        """Who writes past the API leaves no id, and not that of the request before it."""
        database_url = api_server.settings.database_url.get_secret_value()
        with psycopg.connect(database_url) as connection:
            connection.execute("DELETE FROM mlops.outbox")
            connection.execute("SELECT set_config('mlops.request_id', 'before', true)")
            connection.commit()
            connection.execute("DELETE FROM pgstac.items WHERE collection = 'alps-training-data'")
            connection.execute(
                "INSERT INTO mlops.outbox (detail_type, collection, item) VALUES ('x', 'c', 'i')"
            )
            rows = connection.execute("SELECT request_id FROM mlops.outbox").fetchall()
        assert rows
        assert set(rows) == {(None,)}


class TestLog:
    @pytest.mark.usefixtures("workspace")
    def test_is_json_with_the_request_id(
        self, api_server: ApiServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.handler.addFilter(AddRequestId())
        with caplog.at_level(logging.INFO, logger="stac_api.access"):
            httpx.post(
                api_server.url + RUNS, json=run_item(), headers={"X-Request-Id": "to-be-logged"}
            )
            httpx.get(api_server.url + RUNS, headers={"X-Request-Id": "read"})
        lines = [record for record in caplog.records if record.name == "stac_api.access"]
        assert len(lines) == 1, "a read is logged at DEBUG only"
        line = json.loads(JsonLines().format(lines[0]))
        assert line["request_id"] == "to-be-logged"
        assert (line["method"], line["path"], line["status"]) == ("POST", RUNS, 201)
        assert line["milliseconds"] > 0

    @pytest.mark.usefixtures("workspace")
    @pytest.mark.parametrize("path", ["/search", RUNS, "/assets/alps/training-data/blobs"])
    def test_of_a_request_that_breaks_off(
        self, api_server: ApiServer, caplog: pytest.LogCaptureFixture, path: str
    ) -> None:
        """It is the caller's doing: no failure of ours, and nothing that anybody looks into."""
        method = "POST"
        if path.startswith("/assets"):
            method, path = "PUT", f"{path}/aa/{'a' * 64}"
        address = urlsplit(api_server.url)
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nX-Request-Id: broken-off\r\n"
            "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        caplog.handler.addFilter(AddRequestId())
        with caplog.at_level(logging.INFO):
            with socket.create_connection((address.hostname, address.port)) as connection:
                connection.sendall(head.encode())
                # Read as far as it has come, so that the handler waits for the rest.
                time.sleep(0.3)
            until = time.monotonic() + 10
            while not (lines := _of_request(caplog, "broken-off")) and time.monotonic() < until:
                time.sleep(0.05)
        assert [line.status for line in lines] == [400]  # type: ignore[attr-defined]
        assert {record.levelname for record in caplog.records} == {"INFO"}

    def test_of_an_exception(self) -> None:
        try:
            raise ValueError("what went wrong")
        except ValueError:
            record = logging.getLogger("x").makeRecord(
                "x", logging.ERROR, __file__, 1, "failed: %s", ("this",), _information()
            )
        line = json.loads(JsonLines().format(record))
        assert line["message"] == "failed: this"
        assert "what went wrong" in line["exception"]


class TestHealth:
    @pytest.mark.parametrize("path", ["/healthz", "/healthz/live", "/healthz/ready"])
    def test_is_good(self, api_server: ApiServer, path: str) -> None:
        assert httpx.get(api_server.url + path).json()["status"] == "ok"


class TestTooMuch:
    def test_no_free_connection_is_503(self, api_server: ApiServer, workspace: Api) -> None:
        """Writers that wait for a lock hold every connection; the next is told to come again."""
        settings = api_server.settings
        database_url = settings.database_url.get_secret_value()
        item = workspace.request("GET", "/collections/alps-training-data/items/fields-v1").json()
        path = f"{api_server.url}/collections/alps-training-data/items/{item['id']}"
        patch = {"properties": {"title": "waits"}}

        def write() -> int:
            headers = {"Content-Type": "application/merge-patch+json"}
            return httpx.patch(path, json=patch, headers=headers, timeout=60).status_code

        with (
            ThreadPoolExecutor(settings.pool_size) as threads,
            psycopg.connect(database_url) as holder,
        ):
            holder.execute("SELECT FROM pgstac.items WHERE id = 'fields-v1' FOR UPDATE")
            writers = [threads.submit(write) for _ in range(settings.pool_size)]
            while _waiting(database_url) < settings.pool_size:
                pass
            answer = httpx.get(path, timeout=settings.pool_patience_seconds + 5)
            ready = httpx.get(api_server.url + "/healthz/ready", timeout=10)
            live = httpx.get(api_server.url + "/healthz/live", timeout=10)
            holder.rollback()
            assert {writer.result() for writer in writers} == {204}
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.json()["title"] == "Service Unavailable"
        assert (ready.status_code, live.status_code) == (503, 200)
        assert httpx.get(path).json()["properties"]["title"] == "waits"

    @pytest.mark.usefixtures("workspace")
    def test_a_statement_that_takes_too_long_is_503(self, api_server: ApiServer) -> None:
        settings = api_server.settings.model_copy(update={"statement_timeout_seconds": 0.3})
        path = "/collections/alps-training-data/items/fields-v1"
        headers = {"Content-Type": "application/merge-patch+json"}
        patch = {"properties": {"title": "too late"}}
        with (
            psycopg.connect(settings.database_url.get_secret_value()) as holder,
            serving(settings) as url,
            httpx.Client(base_url=url) as client,
        ):
            holder.execute("SELECT FROM pgstac.items WHERE id = 'fields-v1' FOR UPDATE")
            answer = client.patch(path, json=patch, headers=headers)
            assert answer.status_code == 503
            assert "too long" in answer.json()["detail"]
            assert int(answer.headers["Retry-After"]) > 0
            holder.rollback()
            assert client.patch(path, json=patch, headers=headers).status_code == 204


def _of_request(caplog: pytest.LogCaptureFixture, request_id: str) -> list[logging.LogRecord]:
    return [
        record
        for record in caplog.records
        if record.name == "stac_api.access" and getattr(record, "request_id", None) == request_id
    ]


def _information() -> Any:
    return sys.exc_info()


def _waiting(database_url: str) -> int:
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        ).fetchone()
    assert row
    return int(row[0])
