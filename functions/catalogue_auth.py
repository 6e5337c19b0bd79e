"""How we show a discovery catalogue who we are; what is secret is read when it is needed."""

import base64
import time
from collections.abc import Generator

import httpx

from functions.catalogues import Catalogue
from mlops.aws_secrets import AwsSecret

Flow = Generator[httpx.Request, httpx.Response, None]
_MARGIN = 30.0


class SignInError(Exception):
    """The catalogue's issuer gives us no token; the message says what it answered."""


class HeaderAuth(httpx.Auth):
    """A token or a password that lies in a secret; asked for anew when it is refused."""

    def __init__(self, secret: AwsSecret, *, basic: bool) -> None:
        self._secret = secret
        self._basic = basic

    def auth_flow(self, request: httpx.Request) -> Flow:
        """Add the header; httpx calls this for each request."""
        request.headers["Authorization"] = self._header()
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED and self._secret.refresh():
            request.headers["Authorization"] = self._header()
            yield request

    def _header(self) -> str:
        if not self._basic:
            return f"Bearer {self._secret.field('token')}"
        pair = f"{self._secret.field('username')}:{self._secret.field('password')}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"


class ClientCredentialsAuth(httpx.Auth):
    """OAuth 2's client credentials (RFC 6749, 4.4): a token is fetched, and kept while it counts.

    For one thread: as many tokens are fetched as there are instances.
    """

    requires_response_body = True

    def __init__(self, secret: AwsSecret) -> None:
        self._secret = secret
        self._token = ""
        self._until = 0.0

    def auth_flow(self, request: httpx.Request) -> Flow:
        """Add a token; httpx calls this for each request."""
        if time.monotonic() >= self._until:
            yield from self._sign_in()
        request.headers["Authorization"] = f"Bearer {self._token}"
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED:
            self._secret.refresh()
            yield from self._sign_in()
            request.headers["Authorization"] = f"Bearer {self._token}"
            yield request

    def _sign_in(self) -> Flow:
        secret = self._secret.current()
        form = {
            "grant_type": "client_credentials",
            "client_id": self._secret.field("client_id"),
            "client_secret": self._secret.field("client_secret"),
            **({"scope": secret["scope"]} if secret.get("scope") else {}),
        }
        url = self._secret.field("token_url")
        answer = yield httpx.Request("POST", url, data=form)
        try:
            body = answer.json() if answer.is_success else {}
            self._token = str(body["access_token"])
            lifetime = float(body.get("expires_in", 60))
        except (KeyError, TypeError, ValueError) as error:
            raise SignInError(
                f"{url} answered {answer.status_code} and gave no access token: check client_id "
                f"and client_secret in {self._secret.arn}"
            ) from error
        self._until = time.monotonic() + lifetime - _MARGIN


def auth_of(catalogue: Catalogue) -> httpx.Auth | None:
    """What signs the requests to a catalogue."""
    auth = catalogue.auth
    if auth.kind == "sigv4":
        from mlops.signing import SignedAuth

        return SignedAuth(catalogue.url, region=auth.region)
    if auth.secret_arn is None:
        return None
    secret = AwsSecret(auth.secret_arn)
    if auth.kind == "client_credentials":
        return ClientCredentialsAuth(secret)
    return HeaderAuth(secret, basic=auth.kind == "basic")
