"""An account as `mlops engine check` looks at it: IAM, Service Quotas, and what moto has."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, quote
from xml.sax.saxutils import escape

_NAMESPACE = "https://iam.amazonaws.com/doc/2010-05-08/"


class FakeAccount:
    """Roles with their trust and rights, and quotas."""

    def __init__(self) -> None:
        self.roles: dict[str, list[str]] = {}
        """Services that may take on a role, by its name."""
        self.denied: set[str] = set()
        """Actions that no role may do."""
        self.quotas: dict[str, dict[str, float]] = {"sagemaker": {}, "ec2": {}}
        self.forbidden: set[str] = set()
        """Calls that whoever looks has no right to."""
        self.url = ""

    def iam(self, form: dict[str, list[str]]) -> tuple[int, str]:
        """IAM's answer, in XML."""
        action = form["Action"][0]
        if action in self.forbidden:
            return 403, _error("AccessDenied", f"not authorized to perform iam:{action}")
        if action == "GetRole":
            return self._role(form["RoleName"][0])
        results = "".join(
            f"<member><EvalActionName>{name}</EvalActionName><EvalDecision>"
            f"{'implicitDeny' if name in self.denied else 'allowed'}</EvalDecision></member>"
            for name in _members(form, "ActionNames")
        )
        return 200, _result(
            "SimulatePrincipalPolicy",
            f"<IsTruncated>false</IsTruncated><EvaluationResults>{results}</EvaluationResults>",
        )

    def list_quotas(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer of ListServiceQuotas, two quotas a page."""
        quotas = list(self.quotas[request["ServiceCode"]].items())
        begin = int(request.get("NextToken", 0))
        page = [{"QuotaName": name, "Value": value} for name, value in quotas[begin : begin + 2]]
        more = {"NextToken": str(begin + 2)} if begin + 2 < len(quotas) else {}
        return {"Quotas": page, **more}

    def _role(self, name: str) -> tuple[int, str]:
        if name not in self.roles:
            return 404, _error("NoSuchEntity", f"The role with name {name} cannot be found.")
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": self.roles[name]},
            "Action": "sts:AssumeRole",
        }
        trust = quote(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
        return 200, _result(
            "GetRole",
            f"<Role><RoleName>{name}</RoleName><Path>/</Path><RoleId>AROA0123456789</RoleId>"
            f"<Arn>arn:aws:iam::123456789012:role/{name}</Arn>"
            f"<AssumeRolePolicyDocument>{trust}</AssumeRolePolicyDocument>"
            "<CreateDate>2026-01-01T00:00:00Z</CreateDate></Role>",
        )


@contextmanager
def fake_account() -> Iterator[FakeAccount]:
    """An account that answers on 127.0.0.1."""
    account = FakeAccount()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if self.headers.get("X-Amz-Target", "").endswith("ListServiceQuotas"):
                status, answer = 200, json.dumps(account.list_quotas(json.loads(body)))
            else:
                status, answer = account.iam(parse_qs(body))
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Tests say what they want to say."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    account.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield account
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _members(form: dict[str, list[str]], name: str) -> list[str]:
    return [values[0] for key, values in form.items() if key.startswith(f"{name}.member.")]


def _result(action: str, content: str) -> str:
    return (
        f'<{action}Response xmlns="{_NAMESPACE}"><{action}Result>{content}</{action}Result>'
        f"</{action}Response>"
    )


def _error(code: str, message: str) -> str:
    return (
        f'<ErrorResponse xmlns="{_NAMESPACE}"><Error><Code>{code}</Code>'
        f"<Message>{escape(message)}</Message></Error></ErrorResponse>"
    )
