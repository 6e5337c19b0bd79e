"""Who calls the API: people, the system's functions, or the job of one run.

Tokens are short JSON Web Tokens, signed with a secret that the API and the functions share on one
machine. A job's token is good for its own run and attempt only, and expires with it.
"""

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

_ALGORITHM = "HS256"
_ISSUER = "stac-mlops"


class Role(StrEnum):
    """What a caller may do beside what anyone may."""

    USER = "user"
    SYSTEM = "system"
    JOB = "job"


@dataclass(frozen=True)
class Principal:
    """A caller. ``collection``, ``item`` and ``attempt`` bind a job to its run."""

    role: Role
    name: str
    collection: str | None = None
    item: str | None = None
    attempt: int | None = None

    def measures(self, collection: str, item: str) -> bool:
        """Whether this caller may write what the system measured on a run."""
        if self.role is Role.SYSTEM:
            return True
        return self.role is Role.JOB and (self.collection, self.item) == (collection, item)


class InvalidTokenError(Exception):
    """A token that is forged, expired or malformed."""


def issue_system_token(secret: str, name: str, lifetime: int = 3600) -> str:
    """A token for one of the system's functions."""
    return _sign(secret, {"role": Role.SYSTEM, "sub": name}, lifetime)


def issue_job_token(secret: str, collection: str, item: str, attempt: int, lifetime: int) -> str:
    """A token for the job that is ``attempt`` of a run; ``lifetime`` in seconds."""
    claims = {
        "role": Role.JOB,
        "sub": f"job:{collection}/{item}/{attempt}",
        "collection": collection,
        "item": item,
        "attempt": attempt,
    }
    return _sign(secret, claims, lifetime)


def read_token(secret: str, token: str) -> Principal:
    """The caller that a token names; raises :class:`InvalidTokenError`."""
    import jwt

    try:
        claims = jwt.decode(
            token,
            secret,
            algorithms=[_ALGORITHM],
            issuer=_ISSUER,
            options={"require": ["exp", "iss", "sub", "role"]},
        )
        return Principal(
            role=Role(claims["role"]),
            name=claims["sub"],
            collection=claims.get("collection"),
            item=claims.get("item"),
            attempt=claims.get("attempt"),
        )
    except (jwt.InvalidTokenError, ValueError) as error:
        raise InvalidTokenError(f"the token is not valid: {error}") from error


def _sign(secret: str, claims: dict[str, Any], lifetime: int) -> str:
    import jwt

    now = int(time.time())
    return jwt.encode(
        {**claims, "iss": _ISSUER, "iat": now, "exp": now + lifetime}, secret, algorithm=_ALGORITHM
    )
