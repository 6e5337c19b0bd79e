"""What a client prefers to get back from a write: the ``Prefer`` header (RFC 7240)."""

from starlette.requests import Request
from starlette.responses import Response

_PREFERENCE = "return=representation"
_CHANGES = frozenset({"PUT", "PATCH"})


def wants_representation(request: Request) -> bool:
    """Whether a change shall be answered with the record as it is now, instead of 204."""
    given = ",".join(request.headers.getlist("prefer")).replace(" ", "").lower()
    return any(part.split(";")[0] == _PREFERENCE for part in given.split(","))


def as_preferred(request: Request, answer: Response) -> Response:
    """The answer to a write that was done: of a change only its headers, unless all is wanted."""
    if request.method not in _CHANGES or answer.status_code != 200:
        return answer
    if wants_representation(request):
        answer.headers["Preference-Applied"] = _PREFERENCE
        return answer
    return Response(status_code=204, headers={"ETag": answer.headers["ETag"]})
