"""The API behind API Gateway: its two doors, who comes in, and what the cloud changes under it."""

import json
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from pydantic import SecretStr, ValidationError

from functions import rotate_token_secret
from mlops.aws_secrets import AwsSecret
from mlops.identity import issue_job_token, issue_system_token
from stac_api.aws_lambda import LambdaApi
from stac_api.settings import Settings
from tests.integration.conftest import dataset_item, run_item
from tests.integration.test_aws_lambda import DOMAIN, body_of, event
from tests.moto_server import Aws

SECRET = "k" * 32
ROLE = "arn:aws:sts::000000000000:assumed-role/mlops-LaunchRun/function"
RUNS = "/collections/alps-training-runs/items"


def user(name: str, *arguments: Any, **more: Any) -> dict[str, Any]:
    """A request whose JSON Web Token the gateway has checked."""
    made = event(*arguments, **more)
    claims = {"sub": name, "iss": "https://issuer.example"}
    made["requestContext"]["authorizer"] = {"jwt": {"claims": claims, "scopes": None}}
    return made


def signed(token: str | None, method: str, path: str, *arguments: Any) -> dict[str, Any]:
    """A request that a role has signed."""
    headers = {"authorization": "AWS4-HMAC-SHA256 Credential=..."}
    if token is not None:
        headers["x-mlops-token"] = token
    made = event(method, f"/system{path}", *arguments, headers=headers)
    iam = {"accountId": "000000000000", "userArn": ROLE}
    made["requestContext"]["authorizer"] = {"iam": iam}
    return made


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=SecretStr(database_url),
        storage=str(tmp_path / "store"),
        token_secret=SecretStr(SECRET),
        system_path="/system",
    )


@pytest.fixture
def api(settings: Settings) -> Iterator[LambdaApi]:
    api = LambdaApi(settings)
    yield api
    api.close()


@pytest.fixture
def workspace(api: LambdaApi) -> LambdaApi:
    assert api(user("ada", "POST", "/workspaces", {"id": "alps"}), None)["statusCode"] == 201
    items = "/collections/alps-training-data/items"
    assert api(user("ada", "POST", items, dataset_item()), None)["statusCode"] == 201
    return api


def submit(api: LambdaApi, name: str = "ada") -> dict[str, Any]:
    answer = api(user(name, "POST", RUNS, run_item()), None)
    assert answer["statusCode"] == 201, answer
    run: dict[str, Any] = json.loads(body_of(answer))
    return run


def test_a_run_names_who_asked_for_it(workspace: LambdaApi) -> None:
    run = submit(workspace, "auth0|ada")
    assert run["properties"]["mlops:requested_by"] == "auth0|ada"


def test_the_log_has_who_wrote(workspace: LambdaApi, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="stac_api.access"):
        submit(workspace, "auth0|ada")
        token = issue_system_token(SECRET, "tests")
        workspace(signed(token, "POST", "/workspaces", {"id": "jura"}), None)
    writes = [record for record in caplog.records if record.name == "stac_api.access"]
    assert [record.caller for record in writes] == ["auth0|ada", ROLE]  # type: ignore[attr-defined]


def test_a_machine_is_named_by_its_client(workspace: LambdaApi) -> None:
    asked = user("", "POST", RUNS, run_item())
    asked["requestContext"]["authorizer"]["jwt"]["claims"] = {"client_id": "nightly"}
    run = json.loads(body_of(workspace(asked, None)))
    assert run["properties"]["mlops:requested_by"] == "nightly"


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_nobody_comes_in_whom_the_gateway_does_not_name(api: LambdaApi, method: str) -> None:
    answer = api(event(method, "/workspaces", {"id": "alps"}), None)
    assert answer["statusCode"] == 401
    assert json.loads(body_of(answer))["status"] == 401
    assert answer["headers"]["x-request-id"]
    forged = event("POST", "/workspaces", {"id": "alps"}, headers={"x-mlops-token": "x"})
    assert api(forged, None)["statusCode"] == 401
    assert api(event("GET", "/healthz"), None)["statusCode"] == 200


def test_a_user_does_not_come_in_through_the_systems_door(workspace: LambdaApi) -> None:
    run = submit(workspace)
    patch = {"properties": {"mlops:status": "running"}}
    token = issue_system_token(SECRET, "tests")
    asked = user("ada", "PATCH", f"/system{RUNS}/{run['id']}", patch)
    asked["headers"]["x-mlops-token"] = token
    assert workspace(asked, None)["statusCode"] == 401
    asked["rawPath"] = asked["requestContext"]["http"]["path"] = f"{RUNS}/{run['id']}"
    asked["headers"]["content-type"] = "application/merge-patch+json"
    assert workspace(asked, None)["statusCode"] == 409, "the token is of no use at this door"


def test_the_systems_door_leads_back_to_itself(workspace: LambdaApi) -> None:
    run = submit(workspace)
    token = issue_system_token(SECRET, "tests")
    answer = workspace(signed(token, "GET", f"{RUNS}/{run['id']}"), None)
    read = json.loads(body_of(answer))
    assert {urlsplit(link["href"]).path.split("/")[1] for link in read["links"]} == {"system"}
    public = json.loads(body_of(workspace(user("ada", "GET", f"{RUNS}/{run['id']}"), None)))
    assert {link["href"].split("/")[3] for link in public["links"]} <= {
        "",
        "collections",
        "workspaces",
    }
    assert public["links"][0]["href"].startswith(f"https://{DOMAIN}/collections/")


def test_what_the_system_writes_is_read_at_the_users_door(workspace: LambdaApi) -> None:
    run = submit(workspace)
    token = issue_job_token(SECRET, "alps-training-runs", run["id"], 1, 60)
    patch = signed(token, "PATCH", f"{RUNS}/{run['id']}", {"properties": {"mlops:progress": 0.5}})
    patch["headers"]["content-type"] = "application/merge-patch+json"
    assert workspace(patch, None)["statusCode"] == 204
    read = json.loads(body_of(workspace(user("ada", "GET", f"{RUNS}/{run['id']}"), None)))
    assert read["properties"]["mlops:progress"] == 0.5


@pytest.mark.parametrize("token", [None, "", "nonsense"])
def test_who_signs_needs_a_token_to_write(workspace: LambdaApi, token: str | None) -> None:
    answer = workspace(signed(token, "POST", "/workspaces", {"id": "jura"}), None)
    assert answer["statusCode"] == 401
    assert ROLE in body_of(answer) if token is None else "not valid" in body_of(answer)


def test_a_job_may_write_to_its_own_run_only(workspace: LambdaApi) -> None:
    token = issue_job_token(SECRET, "alps-training-runs", "another", 1, 60)
    answer = workspace(signed(token, "POST", "/workspaces", {"id": "jura"}), None)
    assert answer["statusCode"] == 403


class TestRotatedSecrets:
    @pytest.fixture
    def arn(self, aws: Aws) -> str:
        return aws.secret("token", secret=SECRET)

    @pytest.fixture
    def settings(self, database_url: str, tmp_path: Path, arn: str) -> Settings:
        return Settings(
            database_url=SecretStr(database_url),
            storage=str(tmp_path / "store"),
            token_secret_arn=arn,
            system_path="/system",
        )

    def test_tokens_of_two_secrets_count(
        self, api: LambdaApi, aws: Aws, arn: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(AwsSecret, "LEAST_PAUSE", 0.0)
        old = issue_system_token(SECRET, "tests")
        assert self.makes(api, old, "one") == 201
        new = issue_system_token(self.rotate(aws, arn), "tests")
        assert self.makes(api, new, "two") == 201, "a newer secret is asked for"
        assert self.makes(api, old, "three") == 201, "the one before counts still"
        newest = issue_system_token(self.rotate(aws, arn), "tests")
        assert self.makes(api, newest, "four") == 201
        assert self.makes(api, old, "five") == 401
        assert self.makes(api, issue_system_token("f" * 32, "tests"), "six") == 401

    def test_strangers_cause_few_calls(self, api: LambdaApi, aws: Aws, arn: str) -> None:
        """Each refusal could ask for newer secrets: it does so once in a while."""
        forged = issue_system_token("f" * 32, "tests")
        assert self.makes(api, forged, "one") == 401
        new = issue_system_token(self.rotate(aws, arn), "tests")
        assert self.makes(api, new, "two") == 401

    def makes(self, api: LambdaApi, token: str, name: str) -> int:
        answer = api(signed(token, "POST", "/workspaces", {"id": name}), None)
        return int(answer["statusCode"])

    def rotate(self, aws: Aws, arn: str) -> str:
        """What Secrets Manager does: each step, and each of them twice."""
        client, version = aws.client("secretsmanager"), secrets.token_hex(32)
        # moto knows a pending version only when it has a value; the first step finds it there.
        client.put_secret_value(
            SecretId=arn,
            ClientRequestToken=version,
            SecretString=json.dumps({"secret": secrets.token_hex(32)}),
            VersionStages=["AWSPENDING"],
        )
        for step in ("createSecret", "setSecret", "testSecret", "finishSecret"):
            for _ in range(2):
                rotate_token_secret.rotate(client, arn, version, step)
        value = client.get_secret_value(SecretId=arn, VersionStage="AWSCURRENT")["SecretString"]
        return str(json.loads(value)["secret"])


class TestNudge:
    @pytest.fixture
    def queue(self, aws: Aws) -> str:
        return aws.queue("relay")

    @pytest.fixture
    def settings(self, settings: Settings, queue: str) -> Settings:
        return settings.model_copy(update={"relay_queue_url": queue})

    def test_a_write_that_recorded_an_event_wakes_the_relay(
        self, workspace: LambdaApi, aws: Aws, queue: str, database_url: str
    ) -> None:
        self.relay(database_url)
        aws.messages(queue)
        run = submit(workspace)
        assert len(aws.messages(queue)) == 1
        self.relay(database_url)
        path = f"{RUNS}/{run['id']}"
        assert workspace(user("ada", "GET", path), None)["statusCode"] == 200
        titled = user(
            "ada",
            "PATCH",
            path,
            {"properties": {"title": "A run"}},
            content_type="application/merge-patch+json",
        )
        assert workspace(titled, None)["statusCode"] == 204
        assert aws.messages(queue) == [], "neither recorded an event"

    def test_a_queue_that_is_away_fails_no_write(
        self, workspace: LambdaApi, aws: Aws, queue: str
    ) -> None:
        aws.messages(queue)
        aws.client("sqs").delete_queue(QueueUrl=queue)
        submit(workspace)
        assert aws.queue("relay") == queue
        assert (
            workspace(user("ada", "POST", "/workspaces", {"id": "jura"}), None)["statusCode"] == 201
        )
        assert len(aws.messages(queue)) == 1, "the next write makes it good"

    def test_a_queue_that_answers_nothing_holds_no_write_up(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Beyond the function's time its caller would be told of a failure, and it is written."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
            monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", endpoint)
            api = LambdaApi(settings)
            try:
                assert api(user("ada", "POST", "/workspaces", {"id": "alps"}), None)
                begin = time.monotonic()
                items = "/collections/alps-training-data/items"
                api(user("ada", "POST", items, dataset_item()), None)
                posted = api(user("ada", "POST", RUNS, run_item()), None)
                assert posted["statusCode"] == 201
                assert time.monotonic() - begin < 29
            finally:
                api.close()

    def relay(self, database_url: str) -> None:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("DELETE FROM mlops.outbox")


class TestDatabaseSecret:
    def test_a_changed_password_is_asked_for(
        self, aws: Aws, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        parts = urlsplit(database_url)
        role = f"role_{secrets.token_hex(4)}"
        self.execute(database_url, f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'fir:st@1'")
        arn = aws.secret("database", username=role, password="fir:st@1")
        api = LambdaApi(
            Settings(
                database_secret_arn=arn,
                database_host=str(parts.hostname),
                database_port=parts.port or 0,
                database_name=parts.path[1:],
                database_sslmode="prefer",
                storage=str(tmp_path / "store"),
                token_secret=SecretStr(SECRET),
            )
        )
        try:
            assert api(event("GET", "/workspaces"), None)["statusCode"] == 200
            self.execute(database_url, f"ALTER ROLE {role} PASSWORD 'second'")
            aws.client("secretsmanager").put_secret_value(
                SecretId=arn, SecretString=json.dumps({"username": role, "password": "second"})
            )
            monkeypatch.setattr(AwsSecret, "LEAST_PAUSE", 0.0)
            api.distrust_connections()
            assert api(event("GET", "/workspaces"), None)["statusCode"] == 200
        finally:
            api.close()
            self.execute(database_url, f"REASSIGN OWNED BY {role} TO mlops")
            self.execute(database_url, f"DROP ROLE {role}")

    def execute(self, database_url: str, statement: str) -> None:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ({}, "MLOPS_DATABASE_URL"),
        ({"database_url": "postgresql://", "database_secret_arn": "arn"}, "MLOPS_DATABASE_URL"),
        ({"database_url": "postgresql://"}, "MLOPS_TOKEN_SECRET"),
    ],
)
def test_settings_say_what_is_missing(given: dict[str, str], advice: str) -> None:
    with pytest.raises(ValidationError, match=advice):
        Settings(storage="unused", **given)  # type: ignore[arg-type]
