"""Conditional requests: ETag, If-Match and If-None-Match (RFC 9110, section 13)."""

from starlette.requests import Request

from stac_api.problems import Problem


def quoted(etag: str) -> str:
    """The ETag as a header says it."""
    return f'"{etag}"'


def check_if_match(request: Request, etag: str) -> None:
    """412 when the request supposes another version than the present one."""
    header = request.headers.get("if-match")
    if header is not None and not _names(header, etag):
        raise Problem(412, "The record has changed since it was read: read it again and retry.")


def is_unchanged(request: Request, etag: str) -> bool:
    """Whether a reader already has this version (304)."""
    header = request.headers.get("if-none-match")
    return header is not None and _names(header, etag)


def wants_creation_only(request: Request) -> bool:
    """Whether a PUT is to create and never to replace."""
    return request.headers.get("if-none-match", "").strip() == "*"


def _names(header: str, etag: str) -> bool:
    if header.strip() == "*":
        return True
    return any(part.strip().removeprefix("W/") == quoted(etag) for part in header.split(","))
