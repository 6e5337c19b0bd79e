"""Conditional requests: ETag, If-Match and If-None-Match (RFC 9110, section 13)."""

from starlette.requests import Request

from stac_api.problems import Problem


def quoted(etag: str) -> str:
    """The ETag as a header says it."""
    return f'"{etag}"'


def check_if_match(request: Request, etag: str | None) -> None:
    """412 when the request supposes another version than the present one, or than none."""
    header = _listed(request, "if-match")
    if etag is None:
        if header is not None:
            raise Problem(412, "The record that If-Match supposes does not exist.")
        return
    if header is not None and not _names(header, etag, weak=False):
        raise Problem(412, "The record has changed since it was read: read it again and retry.")
    if is_unchanged(request, etag):
        raise Problem(412, "The record has the version that If-None-Match rules out.")


def require_if_match(request: Request) -> None:
    """428 when a record would be replaced with no word of which version is meant."""
    if "if-match" not in request.headers:
        detail = "Say which version is replaced: send If-Match with the ETag that was read."
        raise Problem(428, detail)


def is_unchanged(request: Request, etag: str) -> bool:
    """Whether a reader already has this version (304)."""
    header = _listed(request, "if-none-match")
    return header is not None and _names(header, etag, weak=True)


def wants_creation_only(request: Request) -> bool:
    """Whether a PUT is to create and never to replace."""
    return (_listed(request, "if-none-match") or "").strip() == "*"


def _listed(request: Request, name: str) -> str | None:
    """A header that is a list, which may come in several lines; None where it does not come."""
    return ", ".join(request.headers.getlist(name)) if name in request.headers else None


def _names(header: str, etag: str, *, weak: bool) -> bool:
    """Whether a header names this version; RFC 9110 wants strong comparison for If-Match."""
    if header.strip() == "*":
        return True
    named = [part.strip() for part in header.split(",")]
    return quoted(etag) in ([n.removeprefix("W/") for n in named] if weak else named)
