"""Requests to an API behind an IAM door (API Gateway with an ``AWS_IAM`` authorizer).

They are signed with AWS Signature Version 4 by the caller's own role. SigV4 takes ``Authorization``
for itself, so the token that says who calls travels in :data:`TOKEN_HEADER`, under the signature.
botocore is imported when the first :class:`SignedAuth` is made: on one machine it is not needed.

Method: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import os
import re
from collections.abc import Callable, Generator
from typing import Any
from urllib.parse import parse_qsl, quote, unquote_to_bytes

import httpx

TOKEN_HEADER = "X-Mlops-Token"  # noqa: S105 - the name of a header, not its value
_SERVICE = "execute-api"
_REGION = re.compile(r"\.execute-api\.([a-z0-9-]+)\.")
# What proxies and HTTP clients change on the way is left out of the signature.
_SIGNED_HEADERS = ("Content-Type", TOKEN_HEADER)


class SigningError(Exception):
    """Requests cannot be signed on this machine; the message says what to change."""


class CredentialsAwayError(httpx.TransportError):
    """There are no AWS credentials now: the request was not sent, and may be tried again."""


class SignedAuth(httpx.Auth):
    """Signs each request to the API at ``url``, and adds the token that ``token`` gives.

    The region is the one in ``url``, or ``region``, or that of ``AWS_REGION``. Credentials come
    from botocore's usual chain (``session``: a botocore session, made when none is given) and are
    asked for with each request, so that those of a role are renewed before they expire. ``refused``
    is called when the API answers 401: where it says True, the request is sent once more, with the
    token that ``token`` gives then.

    Raises:
        SigningError: botocore is not installed, or there is no region to sign for.
    """

    requires_request_body = True

    def __init__(
        self,
        url: str,
        token: Callable[[], str] | None = None,
        *,
        refused: Callable[[], bool] | None = None,
        region: str | None = None,
        session: Any = None,
    ) -> None:
        self._region = _region(url, region)
        self._token = token
        self._refused = refused
        if session is None:
            try:
                from botocore.session import Session
            except ImportError as error:
                raise SigningError(
                    f"Requests to {url} are signed with AWS credentials, which takes boto3: "
                    "install it (pip install boto3)."
                ) from error
            session = Session()
        self._session = session

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign the request; httpx calls this for each."""
        # What is signed is what is sent: with each reserved character escaped there is one way
        # only to read the path and the query, on both sides.
        request.url = _escaped(request.url)
        self._sign(request)
        response = yield request
        if response.status_code == 401 and self._refused is not None and self._refused():
            self._sign(request)
            yield request

    def _sign(self, request: httpx.Request) -> None:
        if self._token is not None:
            request.headers[TOKEN_HEADER] = self._token()
        request.headers.update(self._signature(request))

    def _signature(self, request: httpx.Request) -> dict[str, str]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        headers = {
            name: request.headers[name] for name in _SIGNED_HEADERS if name in request.headers
        }
        signed = AWSRequest(
            method=request.method, url=str(request.url), data=request.content, headers=headers
        )
        SigV4Auth(self._credentials(), _SERVICE, self._region).add_auth(signed)
        return {name: value for name, value in signed.headers.items() if name not in headers}

    def _credentials(self) -> Any:
        from botocore.exceptions import BotoCoreError

        try:
            credentials = self._session.get_credentials()
            frozen = credentials.get_frozen_credentials() if credentials is not None else None
        except BotoCoreError as error:
            raise CredentialsAwayError(f"no AWS credentials to sign with: {error}") from error
        if frozen is None:
            raise CredentialsAwayError(
                "no AWS credentials to sign with: give this process a role, or set AWS_PROFILE"
            )
        return frozen


def _region(url: str, region: str | None) -> str:
    found = _REGION.search(httpx.URL(url).host)
    if found is not None:
        return found[1]
    chosen = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not chosen:
        raise SigningError(
            f"The region to sign requests for is not in {url}: set AWS_REGION to the API's."
        )
    return chosen


def _escaped(url: httpx.URL) -> httpx.URL:
    path, _, query = url.raw_path.decode("ascii").partition("?")
    path = "/".join(quote(unquote_to_bytes(part), safe="-_.~") for part in path.split("/"))
    if query:
        pairs = parse_qsl(query, keep_blank_values=True, encoding="latin-1")
        path += "?" + "&".join(
            f"{quote(name, safe='-_.~', encoding='latin-1')}"
            f"={quote(value, safe='-_.~', encoding='latin-1')}"
            for name, value in pairs
        )
    return url.copy_with(raw_path=path.encode("ascii"))
