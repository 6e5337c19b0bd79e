"""From a request to what answers it: one table of all paths, and what each of them takes."""

from collections.abc import Iterable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from stac_api.routes import Handler, Route

# What answers at a path, by method; and the values of the path's parameters.
_Found = tuple[dict[str, ASGIApp], list[str]]

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_FOUND = "mlops.found"


class _Node:
    """Where paths that began alike go on: a segment later, or with any rest."""

    def __init__(self) -> None:
        self.named: dict[str, _Node] = {}
        self.any: _Node | None = None
        self.rest: _Node | None = None
        self.answers: dict[str, ASGIApp] = {}


class Dispatch(BaseRoute):
    """All routes of the API as one of Starlette's: what is at a path is looked up, not tried out.

    So it is known as a whole which methods a path takes, for ``Allow`` and OPTIONS.
    """

    def __init__(self) -> None:
        self._root = _Node()

    def serve(self, routes: Iterable[Route]) -> None:
        """Answer these with their own functions."""
        for route in routes:
            self._at(route.path).answers[route.method] = _serving(route.handler)

    def pass_on(self, routes: Iterable[Route], application: ASGIApp) -> None:
        """Let an application answer these, which routes them once more."""
        for route in routes:
            self._at(route.path).answers[route.method] = application

    def has_head(self, scope: Scope) -> bool:
        """Whether the path of a request has an answer to HEAD other than that to GET."""
        found = self._find(_path(scope))
        return found is not None and "HEAD" in found[0]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether there is anything at the path of a request, whatever its method."""
        if scope["type"] != "http":
            return Match.NONE, {}
        found = self._find(_path(scope))
        if found is None:
            return Match.NONE, {}
        return Match.FULL, {_FOUND: found}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for a path that matches."""
        answers: dict[str, ASGIApp] = scope[_FOUND][0]
        answer = answers.get(scope["method"])
        if answer is None:
            allow = {"Allow": ", ".join(_allowed(answers))}
            if scope["method"] != "OPTIONS":
                raise HTTPException(405, headers=allow)
            answer = Response(status_code=204, headers=allow)
        await answer(scope, receive, send)

    def _at(self, path: str) -> _Node:
        node = self._root
        for segment in path[1:].split("/"):
            if not segment.startswith("{"):
                node = node.named.setdefault(segment, _Node())
                continue
            if segment.endswith(":path}"):
                node.rest = node.rest or _Node()
                node = node.rest
            else:
                node.any = node.any or _Node()
                node = node.any
        return node

    def _find(self, path: str) -> _Found | None:
        if not path.startswith("/"):
            return None
        node, values = self._root, []
        segments = path[1:].split("/")
        for place, segment in enumerate(segments):
            if (named := node.named.get(segment)) is not None:
                node = named
            elif node.any is not None and segment:
                node = node.any
                values.append(segment)
            elif node.rest is not None:
                node = node.rest
                values.append("/".join(segments[place:]))
                break
            else:
                return None
        return (node.answers, values) if node.answers else None


def _serving(handler: Handler) -> ASGIApp:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        response = await handler(*scope[_FOUND][1], Request(scope, receive, send))
        await response(scope, receive, send)

    return serve


def _allowed(answers: dict[str, ASGIApp]) -> list[str]:
    found = [method for method in _METHODS if method in answers]
    return [*found, *(["HEAD"] if "GET" in found else []), "OPTIONS"]


def _path(scope: Scope) -> str:
    """The path below the root of the API."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path
