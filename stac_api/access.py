"""Who calls, and from where: read from the request once."""

from functools import lru_cache
from typing import Any, Protocol

from starlette.datastructures import URL
from starlette.requests import Request

from mlops.aws_secrets import AwsSecret, TokenSecret
from mlops.identity import InvalidTokenError, Principal, Role, read_token
from stac_api.gateway import TOKEN_HEADER, SignedCaller, caller_of
from stac_api.problems import Problem
from stac_api.settings import Settings

LOCAL_USER = Principal(Role.USER, "local")
_ROOT = "mlops.root"
"""Where a request keeps the root of the API, once it was asked for."""


class TokenKeys(Protocol):
    """The secrets that a valid token may be signed with."""

    def accepted(self) -> list[str]:
        """All that count now, the newest first."""
        ...

    def refresh(self) -> bool:
        """Ask for them anew; False when there can be no others now."""
        ...


class GivenKey:
    """The one secret of the settings."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def accepted(self) -> list[str]:
        """The secret."""
        return [self._secret]

    def refresh(self) -> bool:
        """There is no other."""
        return False


def token_keys(settings: Settings) -> TokenKeys:
    """What tokens are checked with."""
    if settings.token_secret_arn is not None:
        return TokenSecret(AwsSecret(settings.token_secret_arn))
    assert settings.token_secret is not None
    return GivenKey(settings.token_secret.get_secret_value())


def principal_of(request: Request) -> Principal:
    """The caller: who the gateway or a token names, or the local user where there is neither.

    401 for a bad token, or where a token is missing.
    """
    caller = caller_of(request)
    if isinstance(caller, Principal):
        return caller
    if isinstance(caller, SignedCaller):
        token = request.headers.get(TOKEN_HEADER)
        if token is None:
            raise _refused(f"{caller.arn} may come in, but sent no token ({TOKEN_HEADER})")
        return _verified(request, token)
    header = request.headers.get("authorization")
    if header is None:
        return LOCAL_USER
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer":
        raise _refused("only Bearer tokens are understood")
    return _verified(request, token.strip())


def require_job_or_system(request: Request, collection: str, item: str) -> Principal:
    """The caller, who must be the job of this run or the system; 403 for anybody else."""
    principal = principal_of(request)
    if not principal.measures(collection, item):
        raise Problem(403, "Only the job of this run may write here.")
    return principal


def base_url_of(request: Request) -> str:
    """The root of the API as the caller sees it; ends with a slash."""
    scope = request.scope
    known: str | None = scope.get(_ROOT)
    if known is None:
        host = next((value for name, value in scope["headers"] if name == b"host"), None)
        server = scope.get("server")
        known = scope[_ROOT] = _base_url(
            scope.get("scheme", "http"),
            host,
            None if server is None else tuple(server),
            scope.get("root_path", ""),
        )
    return known


# It is the same for nearly every request.
@lru_cache(maxsize=256)
def _base_url(
    scheme: str, host: bytes | None, server: tuple[Any, ...] | None, root_path: str
) -> str:
    headers = [] if host is None else [(b"host", host)]
    scope = {"scheme": scheme, "server": server, "headers": headers, "path": root_path}
    return str(URL(scope=scope)).rstrip("/") + "/"


def _verified(request: Request, token: str) -> Principal:
    """Who a token names. What does not verify may be signed with a secret that is newer than those
    that are known here, so they are asked for once more."""
    keys: TokenKeys = request.app.state.token_keys
    try:
        return _read(keys, token)
    except InvalidTokenError as error:
        if not keys.refresh():
            raise _refused(str(error)) from error
    try:
        return _read(keys, token)
    except InvalidTokenError as error:
        raise _refused(str(error)) from error


def _read(keys: TokenKeys, token: str) -> Principal:
    refusal = InvalidTokenError("the token is not valid: there is nothing to check it with")
    for secret in keys.accepted():
        try:
            return read_token(secret, token)
        except InvalidTokenError as error:
            refusal = error
    raise refusal


def _refused(detail: str) -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": "Bearer"})
