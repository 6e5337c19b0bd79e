"""Callers as Amazon API Gateway knows them: it checks who comes in, the API is told.

There are two doors (HTTP API, payload format 2.0). Users bring a JSON Web Token, which an
authorizer of the gateway checks; its claims come with the event. Functions and jobs come in below a
path of their own with requests that their IAM role signed; which of them it is their token says, in
a header of its own, because the signature takes ``Authorization``.

What the gateway says is read from its event and from nowhere else: headers are the caller's.
"""

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from mlops.identity import Principal, Role
from stac_api.problems import answer

TOKEN_HEADER = "x-mlops-token"  # noqa: S105 - the name of a header, not its value
_CALLER = "mlops.caller"
_OPEN_PATHS = frozenset({"/healthz", "/healthz/live", "/healthz/ready"})


@dataclass(frozen=True)
class SignedCaller:
    """Who signed a request; their token says what they are here."""

    arn: str


class Gateway:
    """Middleware: tells the application who calls and through which door.

    A request that came through the system's door has the door's path as its root, so that links
    in the answer lead back through it. One of which the gateway says nothing is refused with 401,
    all but those for the service's health.
    """

    def __init__(self, app: ASGIApp, system_path: str) -> None:
        self._app = app
        self._door = system_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or "aws.event" not in scope:
            await self._app(scope, receive, send)
            return
        scope = dict(scope)
        authorizer = _authorizer(scope["aws.event"])
        path = scope["path"]
        caller: Principal | SignedCaller | None
        if path == self._door or path.startswith(f"{self._door}/"):
            scope["root_path"] = self._door
            caller = _signed(authorizer)
        else:
            caller = _user(authorizer)
        if caller is None and path not in _OPEN_PATHS:
            detail = "Sign in: the request has no valid token of this deployment's issuer."
            headers = {"WWW-Authenticate": "Bearer"}
            await answer(Request(scope), 401, detail, headers=headers)(scope, receive, send)
            return
        scope[_CALLER] = caller
        if caller is not None:
            # The log of requests stands outside of this, and has the state in common.
            scope.setdefault("state", {})["caller"] = _name(caller)
        await self._app(scope, receive, send)


def caller_of(request: Request) -> Principal | SignedCaller | None:
    """Who the gateway says calls; None where there is no gateway, or it lets everybody in."""
    caller: Principal | SignedCaller | None = request.scope.get(_CALLER)
    return caller


def _name(caller: Principal | SignedCaller) -> str:
    return caller.name if isinstance(caller, Principal) else caller.arn


def _authorizer(event: dict[str, Any]) -> dict[str, Any]:
    context = event.get("requestContext")
    found = context.get("authorizer") if isinstance(context, dict) else None
    return found if isinstance(found, dict) else {}


def _user(authorizer: dict[str, Any]) -> Principal | None:
    jwt = authorizer.get("jwt")
    claims = jwt.get("claims") if isinstance(jwt, dict) else None
    if not isinstance(claims, dict):
        return None
    # An access token of a machine may name its client only.
    name = claims.get("sub") or claims.get("client_id")
    return Principal(Role.USER, str(name)) if name else None


def _signed(authorizer: dict[str, Any]) -> SignedCaller | None:
    iam = authorizer.get("iam")
    if not isinstance(iam, dict):
        return None
    arn = iam.get("userArn")
    return SignedCaller(str(arn)) if arn else None
