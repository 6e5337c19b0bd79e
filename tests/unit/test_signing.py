"""Signed requests, checked over a real connection by a door that knows the secret keys."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from botocore.credentials import RefreshableCredentials
from botocore.session import Session

from mlops.api import Api, ApiError, UnavailableError
from mlops.signing import TOKEN_HEADER, SignedAuth, SigningError
from tests.aws.sigv4 import SignatureError, check_signature

REGION = "eu-central-1"
KEYS = {"AKIDEXAMPLE": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "AKIDSECOND": "second"}


class Door(ThreadingHTTPServer):
    """Answers a signed request with who signed it and what came; refuses any other."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.seen: list[dict[str, Any]] = []
        self.refused_tokens: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Request(BaseHTTPRequestHandler):
    server: Door

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        scope = (REGION, "execute-api")
        try:
            key = check_signature(self.command, self.path, headers, body, KEYS, scope=scope)
        except SignatureError as error:
            self._answer(403, b'{"detail": "%s"}' % str(error).encode())
            return
        self.server.seen.append({"key": key, "path": self.path, "headers": headers, "body": body})
        refused = headers.get(TOKEN_HEADER.lower()) in self.server.refused_tokens
        self._answer(401 if refused else 200, b"{}")

    do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the names that http.server looks for

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Next-Offset", "0")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the parent has it
        pass


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    thread = threading.Thread(target=door.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield door
    door.shutdown()
    thread.join()
    door.server_close()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS["AKIDEXAMPLE"])
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")


def connect(door: Door, token: Callable[[], str] | None = None, **options: Any) -> Api:
    return Api(door.url, patience=0, auth=SignedAuth(door.url, token, **options))


def test_the_check_agrees_with_the_example_that_aws_publishes() -> None:
    """``get-vanilla`` of AWS's Signature Version 4 test suite."""
    headers = {
        "host": "example.amazonaws.com",
        "x-amz-date": "20150830T123600Z",
        "authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/"
        "aws4_request, SignedHeaders=host;x-amz-date, Signature="
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    }
    now = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
    scope = ("us-east-1", "service")

    assert check_signature("GET", "/", headers, b"", KEYS, scope=scope, now=now) == "AKIDEXAMPLE"
    with pytest.raises(SignatureError, match="does not match"):
        check_signature("GET", "/other", headers, b"", KEYS, scope=scope, now=now)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/collections/a/items/b?limit=10&token=next:x",
        "/collections/a b/items/c+d:e",
        "/collections/%C3%A4lpen/items/100%25",
        "/search?bbox=1,2,3,4&filter=name%3D'a+b'&filter=x&empty=",
        "/search?q=%E2%9C%93+ok&datetime=2020-01-01T00:00:00Z/..",
    ],
)
def test_what_is_signed_is_what_is_sent(door: Door, path: str) -> None:
    with connect(door, lambda: "who-i-am") as api:
        api.request("GET", path)

    (seen,) = door.seen
    assert seen["headers"][TOKEN_HEADER.lower()] == "who-i-am"


def test_a_refused_token_is_replaced_once(door: Door) -> None:
    """The secret was rotated under a function: it must not wait for its token to expire."""
    door.refused_tokens = {"old", "older"}
    tokens = ["old"]
    renewals = iter([True, True, False])

    def refused() -> bool:
        tokens.append("new" if len(tokens) == 1 else "older")
        return next(renewals)

    with connect(door, lambda: tokens[-1], refused=refused) as api:
        api.request("POST", "/items", json={"a": 1})
        assert [s["headers"][TOKEN_HEADER.lower()] for s in door.seen] == ["old", "new"]
        assert door.seen[0]["body"] == door.seen[1]["body"] == b'{"a":1}'
        for _ in range(2):
            tokens[-1] = "old"
            with pytest.raises(ApiError) as caught:
                api.request("GET", "/items")
            assert caught.value.status == 401
    # Once more, then not again; and not at all where there is no newer secret.
    assert len(door.seen) == 2 + 2 + 1


def test_parameters_keep_their_meaning(door: Door) -> None:
    with connect(door) as api:
        api.request("GET", "/search", params={"q": "a b+c/d ä", "offset": 7})

    assert door.seen[0]["path"] == "/search?q=a%20b%2Bc%2Fd%20%C3%A4&offset=7"


def test_bodies_are_signed(door: Door) -> None:
    with connect(door, lambda: "job") as api:
        api.request("PATCH", "/collections/a/items/b", json={"properties": {"x": 1.5}})
        api.append_log("a", "b", attempt=1, offset=0, text="é\x00binary".encode())

    assert [seen["body"] for seen in door.seen] == [
        b'{"properties":{"x":1.5}}',
        "é\x00binary".encode(),
    ]


def test_another_token_than_the_signed_one_is_refused(door: Door) -> None:
    class Altered(SignedAuth):
        def auth_flow(self, request: Any) -> Any:
            flow = super().auth_flow(request)
            next(flow)
            request.headers[TOKEN_HEADER] = "somebody-else"
            yield request

    api = Api(door.url, patience=0, auth=Altered(door.url, lambda: "me"))
    with api, pytest.raises(ApiError, match="does not match"):
        api.request("GET", "/")


def test_unsigned_requests_are_refused(door: Door) -> None:
    with Api(door.url, patience=0) as api, pytest.raises(ApiError, match="Missing"):
        api.request("GET", "/")


def test_credentials_of_a_role_are_renewed(door: Door) -> None:
    """A role's credentials expire; the next request is signed with new ones, and their token."""
    issued = iter(
        [
            ("AKIDEXAMPLE", "2000-01-01T00:00:00Z", "first"),
            ("AKIDSECOND", "2999-01-01T00:00:00Z", "second"),
        ]
    )

    def renew() -> dict[str, str]:
        key, expiry, token = next(issued)
        secret = KEYS[key]
        return {"access_key": key, "secret_key": secret, "token": token, "expiry_time": expiry}

    session = Session()
    session._credentials = RefreshableCredentials.create_from_metadata(
        renew(), renew, "a container's role"
    )
    tokens = iter(["t-1", "t-2"])
    with connect(door, lambda: next(tokens), session=session) as api:
        api.request("GET", "/one")
        api.request("GET", "/two")

    assert [seen["key"] for seen in door.seen] == ["AKIDSECOND", "AKIDSECOND"]
    assert [seen["headers"]["x-amz-security-token"] for seen in door.seen] == ["second"] * 2
    assert [seen["headers"][TOKEN_HEADER.lower()] for seen in door.seen] == ["t-1", "t-2"]


def test_credentials_that_are_away_may_be_tried_again(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with connect(door) as api:
        with pytest.raises(UnavailableError, match="no AWS credentials"):
            api.request("GET", "/")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS["AKIDEXAMPLE"])
        api.request("GET", "/")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://abc123.execute-api.us-west-2.amazonaws.com/system", "us-west-2"),
        ("https://abc123.execute-api.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("https://mlops.example.org/system", REGION),
    ],
)
def test_the_region_is_that_of_the_url_or_of_the_environment(url: str, expected: str) -> None:
    api = Api(url, auth=SignedAuth(url))
    request = api._http.build_request("GET", "/x")
    signed = next(SignedAuth(url).auth_flow(request))
    assert f"/{expected}/execute-api/aws4_request" in signed.headers["Authorization"]
    api.close()


def test_without_a_region_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    with pytest.raises(SigningError, match="set AWS_REGION"):
        SignedAuth("https://mlops.example.org/system")


def test_a_machine_without_boto3_can_import_it_and_is_told_what_to_install() -> None:
    program = """
import sys
sys.modules["botocore"] = None
from mlops.signing import SignedAuth, SigningError
try:
    SignedAuth("https://a.execute-api.eu-west-1.amazonaws.com")
except SigningError as error:
    assert "pip install boto3" in str(error), error
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", program], check=True)
