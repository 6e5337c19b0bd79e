"""What a client prefers to get back from a write: the ``Prefer`` header (RFC 7240)."""

from starlette.requests import Request

APPLIED = {"Preference-Applied": "return=representation"}


def wants_representation(request: Request) -> bool:
    """Whether a write shall be answered with the record as it is now, instead of 204."""
    given = ",".join(request.headers.getlist("prefer")).replace(" ", "").lower()
    return any(part.split(";")[0] == "return=representation" for part in given.split(","))
