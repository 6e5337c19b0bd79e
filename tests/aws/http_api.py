"""Amazon API Gateway's HTTP API in front of a Lambda function, as the template has it.

Three routes: `ANY /system/{proxy+}` with the IAM authorizer (Signature Version 4 is checked),
`GET /healthz` for anybody, `$default` with the JWT authorizer. What the function gets is payload
format 2.0: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

import base64
import json
import queue
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

import jwt

from tests.aws.account import ACCESS_KEY, ACCOUNT, REGION, SECRET_KEY
from tests.aws.lambda_process import LambdaProcess
from tests.aws.runtime_api import QuietServer
from tests.aws.sigv4 import SignatureError, check_signature

ISSUER = "https://issuer.example"
AUDIENCE = "mlops"
JWT_KEY = "the key of the issuer that these tests have instead of one with RS256"
_TEXT = ("text/", "application/json", "application/javascript", "application/xml")


def user_token(name: str = "ada", audience: str = AUDIENCE) -> str:
    """A token of the issuer for a person."""
    return jwt.encode({"iss": ISSUER, "aud": audience, "sub": name}, JWT_KEY, algorithm="HS256")


class HttpApi:
    """An HTTP API on a free port of this machine. ``function`` makes one more execution
    environment; there are as many as requests at once, ``environments`` at most."""

    def __init__(self, function: Callable[[], LambdaProcess], environments: int = 2) -> None:
        self._make = function
        self._idle: queue.LifoQueue[LambdaProcess | None] = queue.LifoQueue()
        self._all: list[LambdaProcess] = []
        for _ in range(environments):
            self._idle.put(None)
        api = self

        class Handler(_Requests):
            http_api = api

        self._server = QuietServer(("127.0.0.1", 0), Handler)
        self._closed = False
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> "HttpApi":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def serve_with(self, function: Callable[[], LambdaProcess]) -> None:
        """Deploy another function behind it: new execution environments are made of it."""
        self._make = function
        for _ in range(self._idle.qsize()):
            process = self._idle.get()
            if process is not None:
                process.stop()
            self._idle.put(None)

    def invoke(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """The function's answer; None when it failed."""
        process = self._idle.get()
        try:
            if self._closed:
                return None
            if process is None:
                process = self._make()
                self._all.append(process)
                process.start()
            outcome = process.invoke(event)
        finally:
            self._idle.put(process)
        return None if outcome.error is not None else dict(outcome.json())

    def ask(
        self, process: LambdaProcess, method: str, path: str, body: Any = None
    ) -> dict[str, Any] | None:
        """What one execution environment answers to a person's request; None when it failed."""
        content = b"" if body is None else json.dumps(body).encode()
        headers = {
            "host": self.url.removeprefix("http://"),
            "content-type": "application/json",
            "authorization": f"Bearer {user_token()}",
        }
        authorizer = authorizer_of(method, path, headers, content)
        assert authorizer is not None
        outcome = process.invoke(event_of(method, path, headers, content, authorizer))
        return None if outcome.error is not None else dict(outcome.json())

    def logs(self) -> str:
        """What the function wrote."""
        return "\n".join(process.log() for process in self._all)

    def close(self) -> None:
        """Stop serving, and end the function."""
        self._closed = True
        self._server.shutdown()
        self._server.server_close()
        for process in self._all:
            process.stop()


def authorizer_of(
    method: str, target: str, headers: Mapping[str, str], body: bytes
) -> dict[str, Any] | None:
    """What the authorizer of the request's route says; None when it refuses.

    ``target`` is path and query as they came, names of ``headers`` are in lower case.
    """
    path = target.partition("?")[0]
    if path.startswith("/system/"):
        try:
            key = check_signature(
                method,
                target,
                headers,
                body,
                {ACCESS_KEY: SECRET_KEY},
                scope=(REGION, "execute-api"),
            )
        except SignatureError:
            return None
        role = f"arn:aws:sts::{ACCOUNT}:assumed-role/function/environment"
        return {"iam": {"accessKey": key, "accountId": ACCOUNT, "userArn": role}}
    if (method, path) == ("GET", "/healthz"):
        return {}
    scheme, _, token = headers.get("authorization", "").partition(" ")
    try:
        claims = jwt.decode(token, JWT_KEY, algorithms=["HS256"], audience=AUDIENCE, issuer=ISSUER)
    except jwt.InvalidTokenError:
        return None
    if scheme.lower() != "bearer":
        return None
    # All claims are texts by the time that a function sees them.
    return {"jwt": {"claims": {k: str(v) for k, v in claims.items()}, "scopes": None}}


def event_of(
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    authorizer: Mapping[str, Any],
) -> dict[str, Any]:
    """The event that the function gets for a request."""
    path, _, query = target.partition("?")
    kind = headers.get("content-type", "application/json")
    is_text = kind.startswith(_TEXT)
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": dict(headers),
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": "local",
            "domainName": headers["host"],
            "domainPrefix": "local",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": "local",
            "routeKey": "$default",
            "stage": "$default",
            "time": "01/Jan/2026:00:00:00 +0000",
            "timeEpoch": 1767225600000,
        },
        "isBase64Encoded": not is_text,
    }
    if authorizer:
        event["requestContext"]["authorizer"] = dict(authorizer)
    if body:
        event["body"] = body.decode() if is_text else base64.b64encode(body).decode()
    return event


class _Requests(BaseHTTPRequestHandler):
    http_api: HttpApi
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers: dict[str, str] = {}
        for name, value in self.headers.items():
            known = headers.get(name.lower())
            headers[name.lower()] = value if known is None else f"{known},{value}"
        headers.setdefault("x-forwarded-for", "127.0.0.1")
        headers["x-forwarded-proto"] = "http"
        headers["x-forwarded-port"] = self.headers["Host"].partition(":")[2]
        authorizer = authorizer_of(self.command, self.path, headers, body)
        if authorizer is None:
            status = 403 if self.path.startswith("/system/") else 401
            self._answer(status, {}, json.dumps({"message": "Unauthorized"}).encode())
            return
        said = self.http_api.invoke(event_of(self.command, self.path, headers, body, authorizer))
        if said is None:
            self._answer(500, {}, b'{"message":"Internal Server Error"}')
            return
        answer = said.get("body") or ""
        content = base64.b64decode(answer) if said.get("isBase64Encoded") else answer.encode()
        self._answer(said["statusCode"], said.get("headers", {}), content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve  # noqa: N815

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection"):
                self.send_header(name, value)
        if self.command == "HEAD":
            self.send_header("Content-Length", headers.get("content-length", "0"))
        elif status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing: the function has its own log."""
