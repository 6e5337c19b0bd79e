"""CloudFormation's custom resource against real databases, and a server that takes its answers."""

import json
import logging
import secrets
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import pytest

from infra.local.postgres import Cluster
from stac_api import migrate_database
from stac_api.migrate import migrate


class Answers:
    """What CloudFormation is answered; refuses the first ``refusals`` answers."""

    def __init__(self) -> None:
        self.given: list[dict[str, Any]] = []
        self.content_types: list[str | None] = []
        self.refusals = 0
        answers = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if answers.refusals:
                    answers.refusals -= 1
                    self.send_error(503)
                    return
                answers.given.append(json.loads(body))
                answers.content_types.append(self.headers["Content-Type"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/?signature=x"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Context:
    """What Lambda tells the handler."""

    def __init__(self, seconds: float = 300.0) -> None:
        self._seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(self._seconds * 1000)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    monkeypatch.setattr(migrate_database, "_PAUSE", 0.05)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    answers = Answers()
    yield answers
    answers.close()
    # The entry point takes the process's log over.
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def empty_database(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a database with nothing in it, which the environment names."""
    port = cluster.port()
    assert port is not None
    root = cluster.url(port).rsplit("/", 1)[0]
    name = f"new_{secrets.token_hex(6)}"
    with psycopg.connect(f"{root}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[call-overload]
    monkeypatch.setenv("MLOPS_DATABASE_URL", f"{root}/{name}")
    yield f"{root}/{name}"
    with psycopg.connect(f"{root}/postgres", autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')  # type: ignore[call-overload]


def ask(answers: Answers, request: str, seconds: float = 300.0, **more: Any) -> dict[str, Any]:
    """The answer to a request of CloudFormation."""
    event = {
        "RequestType": request,
        "ResponseURL": answers.url,
        "StackId": "arn:aws:cloudformation:eu-central-1:000000000000:stack/mlops/1",
        "RequestId": secrets.token_hex(4),
        "LogicalResourceId": "Database",
        "ResourceProperties": {"ServiceToken": "arn", "Version": "1"},
        **more,
    }
    migrate_database.handler(event, Context(seconds))
    answer = answers.given[-1]
    assert answer["RequestId"] == event["RequestId"]
    assert (answer["StackId"], answer["LogicalResourceId"]) == (event["StackId"], "Database")
    return answer


def test_an_empty_database_is_made_ready_and_stays_so(
    answers: Answers, empty_database: str
) -> None:
    created = ask(answers, "Create")
    assert created["Status"] == "SUCCESS"
    assert "pgstac" in created["Data"]["Applied"]
    identity = created["PhysicalResourceId"]
    again = ask(answers, "Update", PhysicalResourceId=identity)
    assert (again["Status"], again["Data"]["Applied"]) == ("SUCCESS", "nothing")
    assert again["PhysicalResourceId"] == identity
    assert answers.content_types[-1] in ("", None)
    deleted = ask(answers, "Delete", PhysicalResourceId=identity)
    assert (deleted["Status"], deleted["PhysicalResourceId"]) == ("SUCCESS", identity)
    assert migrate(empty_database) == [], "the data stays"


def test_code_of_before_leaves_a_newer_database_as_it_is(
    answers: Answers, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment that is rolled back asks for an update with the older code."""
    monkeypatch.setenv("MLOPS_DATABASE_URL", database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT pgstac.set_version('99.0.0')")
        connection.execute(
            "INSERT INTO public.mlops_migrations (name, sha256) VALUES ('9999_later.sql', 'x')"
        )
    assert ask(answers, "Update")["Status"] == "SUCCESS"


def test_a_failure_is_answered_with_its_reason(
    answers: Answers, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_DATABASE_URL", database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE public.mlops_migrations SET sha256 = 'x'")
    failed = ask(answers, "Update")
    assert failed["Status"] == "FAILED"
    assert "was changed after it was applied" in failed["Reason"]


def test_a_database_that_never_answers_is_waited_for(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate_database, "_MARGIN", 0.0)
    monkeypatch.setenv("MLOPS_DATABASE_URL", "postgresql://mlops:secret@127.0.0.1:9/mlops")
    failed = ask(answers, "Create", seconds=0.5)
    assert failed["Status"] == "FAILED"
    assert "secret" not in failed["Reason"]


def test_an_answer_comes_before_the_function_is_ended(
    answers: Answers, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate_database, "_MARGIN", 0.0)
    monkeypatch.setenv("MLOPS_DATABASE_URL", database_url)
    lock = "SELECT pg_advisory_lock(4711008815)"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(lock)
        stuck = threading.Thread(target=lambda: ask(answers, "Create", seconds=1.0))
        stuck.start()
        for _ in range(200):
            if answers.given:
                break
            threading.Event().wait(0.05)
        assert answers.given[0]["Status"] == "FAILED"
        assert "longer than the function may" in answers.given[0]["Reason"]
        connection.execute("SELECT pg_advisory_unlock_all()")
        stuck.join(20)
    assert len(answers.given) == 1, "the first answer is the only one"


def test_what_cannot_be_imported_is_answered(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "stac_api.migrate", None)
    failed = ask(answers, "Create")
    assert failed["Status"] == "FAILED"
    assert "stac_api.migrate" in failed["Reason"]


def test_missing_settings_are_answered(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLOPS_DATABASE_URL", raising=False)
    failed = ask(answers, "Create")
    assert failed["Status"] == "FAILED"
    assert "MLOPS_DATABASE_SECRET_ARN" in failed["Reason"]


def test_an_answer_that_is_refused_is_sent_again(
    answers: Answers, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_DATABASE_URL", database_url)
    answers.refusals = 2
    assert ask(answers, "Update")["Status"] == "SUCCESS"
