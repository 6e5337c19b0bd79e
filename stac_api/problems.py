"""Errors as RFC 9457 problem documents."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops.request_ids import HEADER, bound
from stac_api.observing import request_id_of

if TYPE_CHECKING:
    from pydantic import ValidationError

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
# A body of one fault after the other must not make an answer many times its size.
MAX_FAULTS = 100


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong in a document; ``pointer`` is a JSON Pointer (RFC 6901)."""

    pointer: str
    detail: str


class Problem(Exception):
    """A request that is answered with an error."""

    def __init__(
        self,
        status: int,
        detail: str,
        faults: Sequence[Fault] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.faults = tuple(faults)
        self.headers = headers or {}


def not_found(what: str) -> Problem:
    """404 with a sentence."""
    return Problem(404, f"{what} does not exist.")


def invalid(
    detail: str, *faults: Fault, status: int = 422, headers: dict[str, str] | None = None
) -> Problem:
    """422: the document is well-formed JSON, but not what it should be.

    A fault that has no place of its own is the whole document's.
    """
    return Problem(status, detail, faults or [Fault("", detail)], headers)


def pointer(*parts: object) -> str:
    """The JSON Pointer to a place in a document."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def faults_of(error: "ValidationError", *prefix: object) -> list[Fault]:
    """A pydantic error as faults, their pointers below ``prefix``."""
    return [
        Fault(pointer(*prefix, *fault["loc"]), str(fault["msg"]).removeprefix("Value error, "))
        for fault in error.errors()
    ]


class Failures:
    """Middleware, innermost: answers what nobody expected, and who is cut short by a shutdown.

    Inside of the others, so that their headers are in these answers too, and pages of other origins
    can read them. What fails after an answer has begun is left to the server.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        has_begun = scope["type"] != "http"

        async def send_on(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except asyncio.CancelledError:
            # The server stops and waits no longer. What was begun in the database is undone.
            if not has_begun:
                detail = "The server is being stopped; send the request again."
                headers = {"Retry-After": "2"}
                await answer(Request(scope), 503, detail, headers=headers)(scope, receive, send)
            raise
        except Exception as error:
            if has_begun:
                raise
            await (await _on_failure(Request(scope), error))(scope, receive, send)


def add_problem_handlers(app: Starlette) -> None:
    """Answer every exception that can reach the top with a problem document."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    for kind, status in _STATUS_OF.items():
        app.add_exception_handler(kind, _handler(status))
    app.add_exception_handler(Exception, _on_failure)


_STATUS_OF: dict[type[Exception], int] = {
    asyncpg.DataError: 400,
    # A value too long for an index, or a document too large for the database.
    asyncpg.ProgramLimitExceededError: 422,
    asyncpg.exceptions.RaiseError: 400,
    asyncpg.exceptions.InvalidTextRepresentationError: 400,
    asyncpg.exceptions.UndefinedFunctionError: 400,
    asyncpg.exceptions.InvalidParameterValueError: 400,
}


def answer(
    request: Request,
    status: int,
    detail: str,
    faults: Sequence[Fault] = (),
    headers: dict[str, str] | None = None,
) -> Response:
    """An error as a problem document, with the id by which the log knows the request."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.url.path,
    }
    if faults:
        body["errors"] = [{"pointer": f.pointer, "detail": f.detail} for f in faults[:MAX_FAULTS]]
    request_id = request_id_of(request.scope)
    if request_id is not None:
        body["request_id"] = request_id
        # Here, because what fails in a middleware is answered outside of every one of them.
        headers = {**(headers or {}), HEADER: request_id}
    return Response(orjson.dumps(body), status, headers=headers, media_type=MEDIA_TYPE)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return answer(request, error.status, error.detail, error.faults, error.headers)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers) if error.headers else None
    return answer(request, error.status_code, str(error.detail), headers=headers)


async def _on_disconnect(request: Request, _: Exception) -> Response:
    # Nobody is there to read it: so that the log tells of a request that broke off, and no failure.
    return answer(request, 400, "The request broke off: send it again.")


def _handler(status: int) -> Any:
    async def handle(request: Request, error: Exception) -> Response:
        # A message of the database's own may be long and hold its context: the first line says it.
        detail = str(error).splitlines()[0] if str(error) else HTTPStatus(status).phrase
        # What our own functions refuse has its place in the request as its detail.
        place = (error.detail or "") if isinstance(error, asyncpg.RaiseError) else ""
        faults = [Fault(place, detail)] if place.startswith("/") else []
        return answer(request, status, detail, faults)

    return handle


async def _on_failure(request: Request, error: Exception) -> Response:
    with bound(request_id_of(request.scope)):
        logger.exception(
            "unexpected error on %s %s", request.method, request.url.path, exc_info=error
        )
    return answer(request, 500, "An unexpected error; the log says more.")
