"""Publications in discovery catalogues: another STAC API of this project, and a server that treats
records as pycsw does."""

import base64
import json
import secrets
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import psycopg
import pytest
from pydantic import SecretStr, ValidationError

from functions import publish_resource
from functions.catalogues import Catalogue
from functions.services import Services, SystemAuth
from mlops.api import Api
from mlops.events import Function, queue_event
from mlops.storage import open_store
from stac_api.outbox import relay
from stac_api.settings import Settings
from tests.conftest import ApiServer, serving
from tests.integration.conftest import dataset_item
from tests.moto_server import Aws
from tests.stac_schemas import faults

PUBLIC = "https://mlops.example.com"
DATA = "alps-training-data"


class Records:
    """A catalogue of records: PUT of what is not there answers well and does nothing."""

    def __init__(self) -> None:
        self.entries: dict[str, dict[str, Any]] = {}
        self.allowed: set[str] | None = None
        """Values of ``Authorization`` that count; None for anything."""
        self.issued: list[dict[str, list[str]]] = []
        self.requests: list[str] = []
        self.broken = False
        records = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                records.serve(self, None)

            def do_POST(self) -> None:
                records.serve(self, self.rfile.read(int(self.headers["Content-Length"])))

            do_PUT = do_POST  # noqa: N815 - the name that the base class looks for

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def serve(self, request: BaseHTTPRequestHandler, body: bytes | None) -> None:
        self.requests.append(f"{request.command} {request.path}")
        status, answer = self.answer(request, body)
        content = json.dumps(answer).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def answer(self, request: BaseHTTPRequestHandler, body: bytes | None) -> tuple[int, Any]:
        if request.path == "/token":
            self.issued.append(parse_qs((body or b"").decode()))
            return 200, {"access_token": f"token-{len(self.issued)}", "expires_in": 3600}
        if self.broken:
            return 500, {"description": "out of disk"}
        if self.allowed is not None and request.headers["Authorization"] not in self.allowed:
            return 401, {"description": "who are you?"}
        root = "/collections/metadata:main/items"
        if not request.path.startswith(root):
            return 404, {"description": "no such collection"}
        own = request.path.removeprefix(root).strip("/")
        entry = None if body is None else json.loads(body)
        if request.command == "GET":
            return (200, self.entries[own]) if own in self.entries else (404, {})
        assert entry is not None
        assert request.headers["Content-Type"] == "application/geo+json"
        if request.command == "POST":
            if entry["id"] in self.entries:
                return 400, {"description": "item identifier exists"}
            self.entries[entry["id"]] = entry
            return 201, {}
        if own in self.entries:
            self.entries[own] = entry
        return 204, {}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def records() -> Iterator[Records]:
    records = Records()
    yield records
    records.close()


def records_catalogue(records: Records, **more: Any) -> Catalogue:
    given = {"name": "pycsw", "kind": "records", "url": records.url}
    return Catalogue.model_validate({**given, "collection": "metadata:main", **more})


class Publisher:
    """A workspace that publishes: what the relay tells goes to the function."""

    def __init__(self, server: ApiServer, user: Api) -> None:
        self.server, self.user = server, user
        system = Api(server.url, auth=SystemAuth(SecretStr(server.secret)), patience=0)
        store = open_store(server.settings.storage)
        self.services = Services(system, store, {}, self, SecretStr(server.secret))
        self.told: list[str] = []

    def publish(self, event: Any) -> None:  # noqa: ARG002 - the signature of a bus
        raise AssertionError("the function sends no events")

    def describe(self, **properties: Any) -> None:
        self.user.merge_patch(DATA, "fields-v1", {"properties": properties})

    def events(self) -> list[str]:
        url = self.server.settings.database_url
        assert url is not None
        with psycopg.connect(url.get_secret_value(), autocommit=True) as connection:
            relay(connection, lambda events: self.told.extend(e.to_json() for e in events), PUBLIC)
        return [body for body in self.told if ".published" in body]

    def deliver(self, *catalogues: Catalogue, times: int = 1) -> list[str]:
        """The messages that failed."""
        services = replace(self.services, catalogues=catalogues)
        bodies = [(str(n), body, 1) for n, body in enumerate(self.events() * times)]
        assert bodies
        answer = publish_resource.build(services)(
            queue_event(bodies, Function.PUBLISH_RESOURCE), None
        )
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


@pytest.fixture
def publisher(api_server: ApiServer, workspace: Api) -> Publisher:
    publisher = Publisher(api_server, workspace)
    publisher.describe(**{"mlops:published": True, "title": "Fields of the Alps"})
    return publisher


@pytest.fixture
def other(template: str, database_url: str, tmp_path: Path) -> Iterator[Api]:  # noqa: ARG001
    """Another STAC API, which has the collection ``models-and-data``."""
    name = f"other_{secrets.token_hex(6)}"
    source = template.rsplit("/", 1)[1]
    root = template.removesuffix(source)
    with psycopg.connect(root + "postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}"')  # type: ignore[call-overload]
    settings = Settings(
        database_url=SecretStr(root + name),
        storage=str(tmp_path / "other"),
        token_secret=SecretStr(secrets.token_hex(32)),
    )
    try:
        with serving(settings) as url, Api(url, patience=0) as api:
            collection = {
                "type": "Collection",
                "stac_version": "1.1.0",
                "id": "models-and-data",
                "description": "What others publish",
                "license": "other",
                "extent": {
                    "spatial": {"bbox": [[-180, -90, 180, 90]]},
                    "temporal": {"interval": [[None, None]]},
                },
                "links": [],
            }
            api.request("POST", "/collections", json=collection)
            yield api
    finally:
        with psycopg.connect(root + "postgres", autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')  # type: ignore[call-overload]


def stac_catalogue(url: str, **more: Any) -> Catalogue:
    given = {"name": "stac", "kind": "stac", "url": url, "collection": "models-and-data"}
    return Catalogue.model_validate({**given, **more})


def test_an_item_is_registered_in_a_stac_api(publisher: Publisher, other: Api) -> None:
    assert publisher.deliver(stac_catalogue(other.url), times=2) == []
    entry = other.get_item("models-and-data", "alps.fields-v1").item
    assert entry["properties"]["title"] == "Fields of the Alps"
    (canonical,) = [link["href"] for link in entry["links"] if link["rel"] == "canonical"]
    assert canonical == f"{PUBLIC}/collections/{DATA}/items/fields-v1"
    assert entry["assets"]["manifest"]["href"].startswith(f"{PUBLIC}/assets/alps/")
    assert publisher.server.url not in json.dumps(entry)
    assert faults(entry) == []
    publisher.describe(**{"mlops:published": False})
    publisher.describe(**{"mlops:published": True, "title": "Fields, described anew"})
    assert publisher.deliver(stac_catalogue(other.url)) == []
    entry = other.get_item("models-and-data", "alps.fields-v1").item
    assert entry["properties"]["title"] == "Fields, described anew"


def test_an_item_is_registered_as_a_record(publisher: Publisher, records: Records) -> None:
    target = records_catalogue(records)
    assert publisher.deliver(target, times=2) == []
    (record,) = records.entries.values()
    assert record["id"] == "alps.fields-v1"
    assert record["conformsTo"] == [
        "http://www.opengis.net/spec/ogcapi-records-1/1.0/req/record-core"
    ]
    assert record["properties"]["type"] == "dataset"
    assert record["properties"]["title"] == "Fields of the Alps"
    assert record["time"]["interval"] == ["2016-01-01T00:00:00Z", "2017-01-01T00:00:00Z"]
    links = {link["rel"]: link["href"] for link in record["links"]}
    assert links["canonical"] == f"{PUBLIC}/collections/{DATA}/items/fields-v1"
    assert links["enclosure"].startswith(f"{PUBLIC}/assets/")
    assert records.requests[0].startswith("GET")


def test_each_catalogue_takes_what_it_is_for(publisher: Publisher, records: Records) -> None:
    models = records_catalogue(records, kinds=["model"])
    jura = records_catalogue(records, workspaces=["jura"])
    assert publisher.deliver(models, jura) == []
    assert records.requests == []


def test_what_was_taken_back_is_not_registered(publisher: Publisher, records: Records) -> None:
    publisher.events()
    publisher.describe(**{"mlops:published": False})
    assert publisher.deliver(records_catalogue(records)) == []
    assert records.requests == []


def test_one_that_fails_does_not_keep_the_others(publisher: Publisher, records: Records) -> None:
    broken = Records()
    broken.broken = True
    try:
        away = records_catalogue(broken, name="away", url="http://127.0.0.1:9")
        targets = (records_catalogue(broken, name="broken"), away, records_catalogue(records))
        assert publisher.deliver(*targets) == ["0"], "it is delivered again"
        assert list(records.entries) == ["alps.fields-v1"]
        broken.broken = False
        assert publisher.deliver(targets[0], targets[2]) == []
        assert list(broken.entries) == ["alps.fields-v1"]
    finally:
        broken.close()


def test_a_missing_collection_is_named(
    publisher: Publisher, records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    assert publisher.deliver(records_catalogue(records, collection="none")) == ["0"]
    assert "it needs a collection 'none'" in caplog.text


class TestSigningIn:
    def test_a_token_that_was_changed(
        self,
        publisher: Publisher,
        records: Records,
        aws: Aws,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("mlops.aws_secrets.AwsSecret.LEAST_PAUSE", 0.0)
        arn = aws.secret("catalogue", token="first")
        target = records_catalogue(records, auth={"kind": "bearer", "secret_arn": arn})
        records.allowed = {"Bearer first"}
        services = replace(publisher.services, catalogues=(target,))
        handler = publish_resource.build(services)
        event = queue_event([("0", publisher.events()[0], 1)], Function.PUBLISH_RESOURCE)
        assert handler(event, None)["batchItemFailures"] == []
        records.allowed = {"Bearer second"}
        assert handler(event, None)["batchItemFailures"] != []
        aws.client("secretsmanager").put_secret_value(
            SecretId=arn, SecretString='{"token": "second"}'
        )
        assert handler(event, None)["batchItemFailures"] == []

    def test_a_password(self, publisher: Publisher, records: Records, aws: Aws) -> None:
        arn = aws.secret("catalogue", username="ada", password="pw")
        records.allowed = {f"Basic {base64.b64encode(b'ada:pw').decode()}"}
        target = records_catalogue(records, auth={"kind": "basic", "secret_arn": arn})
        assert publisher.deliver(target) == []

    def test_client_credentials(self, publisher: Publisher, records: Records, aws: Aws) -> None:
        fields = {"client_id": "mlops", "client_secret": "s3cret", "scope": "write"}
        arn = aws.secret("catalogue", token_url=f"{records.url}/token", **fields)
        # The first token is taken back at once.
        records.allowed = {"Bearer token-2"}
        target = records_catalogue(records, auth={"kind": "client_credentials", "secret_arn": arn})
        assert publisher.deliver(target) == []
        assert len(records.issued) == 2
        assert records.issued[0]["grant_type"] == ["client_credentials"]
        assert records.issued[0]["scope"] == ["write"]

    def test_requests_are_signed(self, publisher: Publisher, records: Records, aws: Aws) -> None:
        target = records_catalogue(records, auth={"kind": "sigv4", "region": "eu-central-1"})
        records.allowed = set()
        assert publisher.deliver(target) == ["0"]
        assert aws.url

    def test_what_is_secret_is_not_in_the_settings(self) -> None:
        for kind, more in (("bearer", {}), ("none", {"secret_arn": "arn"})):
            with pytest.raises(ValidationError, match="secret_arn"):
                Catalogue.model_validate(
                    {
                        "name": "c",
                        "kind": "stac",
                        "url": "https://c.example",
                        "collection": "c",
                        "auth": {"kind": kind, **more},
                    }
                )


def test_two_workspaces_do_not_overwrite_one_another(
    publisher: Publisher, records: Records
) -> None:
    publisher.user.request("POST", "/workspaces", json={"id": "jura"})
    publisher.user.create_item("jura-training-data", dataset_item())
    publisher.user.merge_patch(
        "jura-training-data", "fields-v1", {"properties": {"mlops:published": True}}
    )
    assert publisher.deliver(records_catalogue(records)) == []
    assert sorted(records.entries) == ["alps.fields-v1", "jura.fields-v1"]
