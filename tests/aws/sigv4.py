"""Checks AWS Signature Version 4 as a service does: written from AWS's description, not botocore.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<date>\d{8})/(?P<region>[^/]+)/"
    r"(?P<service>[^/]+)/aws4_request, SignedHeaders=(?P<signed>[^,]+), "
    r"Signature=(?P<signature>[0-9a-f]{64})"
)
_SKEW_SECONDS = 300


class SignatureError(Exception):
    """The request is not signed, or not by whom it says."""


def check_signature(
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    keys: Mapping[str, str],
    *,
    scope: tuple[str, str],
    now: datetime | None = None,
) -> str:
    """The access key that signed a request.

    ``target`` is the path and query as they came over the wire, ``headers`` have lower-case names,
    ``keys`` are the secret keys by access key, ``scope`` is region and service.
    """
    found = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if found is None:
        raise SignatureError("Missing Authentication Token")
    if (found["region"], found["service"]) != scope:
        raise SignatureError(f"Credential should be scoped to {scope}")
    stamp = headers["x-amz-date"]
    sent = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if abs(((now or datetime.now(UTC)) - sent).total_seconds()) > _SKEW_SECONDS:
        raise SignatureError("Signature expired")
    signed = found["signed"].split(";")
    if "host" not in signed:
        raise SignatureError("'Host' must be a 'SignedHeader' in the AWS Authorization.")
    for name in headers:
        if name.startswith("x-amz-") and name not in signed:
            raise SignatureError(f"{name} must be a signed header")
    key = keys.get(found["key"])
    if key is None:
        raise SignatureError("The security token included in the request is invalid.")
    path, _, query = target.partition("?")
    canonical = "\n".join(
        [
            method,
            # Every service but S3 escapes the path as it was sent once more.
            quote(path or "/", safe="/-_.~"),
            "&".join(sorted(part if "=" in part else f"{part}=" for part in query.split("&")))
            if query
            else "",
            *(f"{name}:{' '.join(headers[name].split())}" for name in signed),
            "",
            ";".join(signed),
            hashlib.sha256(body).hexdigest(),
        ]
    )
    credential = f"{found['date']}/{scope[0]}/{scope[1]}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{credential}\n{digest}"
    derived = f"AWS4{key}".encode()
    for part in (found["date"], *scope, "aws4_request", text):
        derived = hmac.new(derived, part.encode(), hashlib.sha256).digest()
    if not hmac.compare_digest(derived.hex(), found["signature"]):
        raise SignatureError("The request signature we calculated does not match the signature")
    return found["key"]
