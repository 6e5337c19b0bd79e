"""HTTP to the STAC API, for functions, jobs and the SDK: one place for retries and errors."""

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx

from mlops import request_ids

Item = dict[str, Any]
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
_RETRIED = frozenset({429, 502, 503, 504})
_CHUNK = 1 << 20


class ApiError(Exception):
    """The API refused a request; ``status`` is HTTP's, the message is the problem's detail."""

    def __init__(self, status: int, detail: str, problem: dict[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.problem = problem or {}


class NotFoundError(ApiError):
    """404: there is no such thing."""


class ConflictError(ApiError):
    """409 or 412: the record is in another state than the request supposes."""


class UnavailableError(ApiError):
    """The API cannot be reached, or says that it cannot answer now."""


class FileChangedError(Exception):
    """A file is not what it was when its checksum was taken."""


@dataclass(frozen=True)
class Versioned:
    """An item with the ETag under which it was read."""

    item: Item
    etag: str


class Api:
    """A connection to the STAC API.

    Requests that changed nothing for sure (no connection, 429, 502, 503, 504) are sent again with
    growing, jittered pauses while ``patience`` seconds last. ``auth`` signs each request, for a
    caller that outlives any one token. Requests carry ``request_id``, or the id of what is being
    worked on (:mod:`mlops.request_ids`), so that the API's log knows what they belong to.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        patience: float = 20.0,
        timeout: float = 60.0,
        auth: httpx.Auth | None = None,
        request_id: str | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.patience = patience
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if request_id is not None:
            headers[request_ids.HEADER] = request_id
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout, auth=auth)
        # A presigned URL must not be sent our token.
        self._bare = httpx.Client(timeout=300)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
        self._bare.close()

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """Send a request; raise :class:`ApiError` or a kind of it when it is not answered well."""
        deadline, pause = time.monotonic() + self.patience, 0.1
        request_id = request_ids.current()
        if request_id is not None:
            kwargs["headers"] = {request_ids.HEADER: request_id, **(kwargs.get("headers") or {})}
        while True:
            try:
                response = self._http.request(method, path, **kwargs)
            except httpx.TransportError as error:
                problem: ApiError = UnavailableError(
                    503,
                    f"The API at {self.url} cannot be reached ({error}). Is `mlops up` running?",
                )
            else:
                if response.status_code not in _RETRIED:
                    _raise_for_problem(response)
                    return response
                problem = UnavailableError(response.status_code, _detail(response))
            if time.monotonic() + pause > deadline:
                raise problem
            # Jitter is no secret: any spread will do.
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(pause * 2, 5.0)

    def get_json(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """GET a JSON document."""
        return cast(dict[str, Any], self.request("GET", path, **kwargs).json())

    def get_item(self, collection: str, item: str) -> Versioned:
        """Read an item and its ETag."""
        response = self.request("GET", f"/collections/{collection}/items/{item}")
        return Versioned(response.json(), response.headers["ETag"])

    def create_item(self, collection: str, item: Item) -> tuple[Item, bool]:
        """Create an item; False beside it when the API found that it is already there."""
        response = self.request("POST", f"/collections/{collection}/items", json=item)
        return response.json(), response.status_code == httpx.codes.CREATED

    def merge_patch(self, collection: str, item: str, patch: dict[str, Any]) -> Item:
        """Apply a JSON Merge Patch (RFC 7396) to an item."""
        return self._patch(collection, item, patch, MERGE_PATCH)

    def json_patch(self, collection: str, item: str, patch: list[dict[str, Any]]) -> Item:
        """Apply a JSON Patch (RFC 6902) to an item; a failing ``test`` is a ConflictError."""
        return self._patch(collection, item, patch, JSON_PATCH)

    def delete_item(self, collection: str, item: str) -> None:
        """Delete an item; a run that is open is dismissed instead."""
        self.request("DELETE", f"/collections/{collection}/items/{item}")

    def search(self, **body: Any) -> Iterator[Item]:
        """Every item that a POST /search finds, page after page."""
        request: dict[str, Any] | None = {"limit": 100, **body}
        while request is not None:
            page = self.request("POST", "/search", json=request).json()
            yield from page["features"]
            nexts = [link for link in page.get("links", []) if link["rel"] == "next"]
            request = nexts[0]["body"] if nexts and page["features"] else None

    def send_metrics(
        self,
        collection: str,
        run: str,
        *,
        batch: str,
        attempt: int,
        points: list[dict[str, Any]],
        progress: float | None = None,
    ) -> None:
        """Send metric points (``name``, ``step``, ``time``, ``value``); the same batch id twice
        counts once. No points is a heartbeat."""
        body = {"batch": batch, "attempt": attempt, "points": points, "progress": progress}
        self.request("POST", f"/collections/{collection}/items/{run}/metrics", json=body)

    def read_metrics(self, collection: str, run: str, since: int = 0) -> dict[str, Any]:
        """Metric history after cursor ``since``: ``{"points": [...], "cursor": n}``."""
        path = f"/collections/{collection}/items/{run}/metrics"
        return self.get_json(path, params={"since": since})

    def append_log(
        self, collection: str, run: str, *, attempt: int, offset: int, text: bytes
    ) -> int:
        """Append to a run's log; bytes that the API already has at ``offset`` count once.

        Gives the offset at which the log of this attempt then ends."""
        path = f"/collections/{collection}/items/{run}/log"
        params = {"attempt": attempt, "offset": offset}
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        response = self.request("POST", path, params=params, content=text, headers=headers)
        return int(response.headers["X-Next-Offset"])

    def read_log(self, collection: str, run: str, offset: int = 0) -> tuple[str, int]:
        """A run's log from byte ``offset`` on, and the offset of its end."""
        path = f"/collections/{collection}/items/{run}/log"
        response = self.request("GET", path, params={"offset": offset})
        return response.text, int(response.headers["X-Next-Offset"])

    def plan_uploads(self, workspace: str, files: list[dict[str, Any]]) -> dict[str, Any]:
        """Where these (``sha256``, ``size``) shall lie (``files``: ``key`` and the ``href`` for an
        asset), and which are missing (``missing``: the ``url`` to PUT each to)."""
        path = f"/workspaces/{workspace}/uploads"
        return cast(dict[str, Any], self.request("POST", path, json={"files": files}).json())

    def upload(
        self,
        url: str,
        path: Path,
        sha256: str | None = None,
        on_sent: Callable[[int], None] | None = None,
    ) -> None:
        """PUT a file to a URL that :meth:`plan_uploads` gave.

        With ``sha256`` the content is checked on its way: raises :class:`FileChangedError`, and
        nothing is stored, when the file is not what it was. ``on_sent`` is told of every chunk's
        bytes, and of a negative number when what was sent must be sent again.
        """
        for attempt in range(4):
            sent = _SentBytes(on_sent)
            size = path.stat().st_size
            try:
                response = self._bare.put(
                    url,
                    content=sent.of(_checked_chunks(path, size, sha256)),
                    headers={"Content-Length": str(size)},
                )
            except httpx.TransportError as error:
                if attempt == 3:
                    raise UnavailableError(503, f"uploading {path.name} failed: {error}") from error
            else:
                if response.status_code not in _RETRIED:
                    _raise_for_problem(response)
                    return
            sent.take_back()
            time.sleep(2.0**attempt)
        raise UnavailableError(503, f"uploading {path.name} failed: the store is not available")

    def download(
        self, url: str, path: Path, on_received: Callable[[int], None] | None = None
    ) -> None:
        """Save what an ``http(s)`` asset href gives to ``path``; ``on_received`` is told of every
        chunk's bytes."""
        part = path.with_name(f".part-{path.name}")
        try:
            self._save(url, part, on_received)
            part.replace(path)
        except httpx.TransportError as error:
            raise UnavailableError(503, f"downloading {url} failed: {error}") from error
        finally:
            part.unlink(missing_ok=True)

    def _save(self, url: str, path: Path, on_received: Callable[[int], None] | None) -> None:
        with self._reading(url) as response:
            if response.is_error:
                response.read()
                _raise_for_problem(response)
            with path.open("wb") as file:
                for chunk in response.iter_bytes():
                    file.write(chunk)
                    if on_received:
                        on_received(len(chunk))

    @contextmanager
    def _reading(self, url: str) -> Iterator[httpx.Response]:
        """What ``url`` gives. Where the API answers with a place in the object store, that gets
        neither our token nor our signature."""
        if url.startswith(self.url + "/"):
            with self._http.stream("GET", url) as response:
                if not response.has_redirect_location:
                    yield response
                    return
                url = str(response.url.join(response.headers["Location"]))
        with self._bare.stream("GET", url, follow_redirects=True) as response:
            yield response

    def _patch(self, collection: str, item: str, patch: Any, media_type: str) -> Item:
        path = f"/collections/{collection}/items/{item}"
        headers = {"Content-Type": media_type, "Prefer": "return=representation"}
        return cast(Item, self.request("PATCH", path, json=patch, headers=headers).json())


class _SentBytes:
    """Counts the bytes of one try of an upload, so that a failed try can be taken back."""

    def __init__(self, tell: Callable[[int], None] | None) -> None:
        self._tell = tell
        self._count = 0

    def of(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            yield chunk
            self._count += len(chunk)
            if self._tell:
                self._tell(len(chunk))

    def take_back(self) -> None:
        if self._tell and self._count:
            self._tell(-self._count)


def _checked_chunks(path: Path, size: int, sha256: str | None) -> Iterator[bytes]:
    """A file's bytes; the last chunk is held back until the whole is known to be right.

    A PUT that lacks its last bytes is thrown away by the receiver, so a file that changed since
    its checksum was taken never lies in the store under that checksum.
    """
    digest, held, count = hashlib.sha256(), b"", 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            count += len(chunk)
            if held:
                yield held
            held = chunk
    if count != size or (sha256 is not None and digest.hexdigest() != sha256):
        raise FileChangedError(f"{path} changed while it was being uploaded: push again")
    if held:
        yield held


def _raise_for_problem(response: httpx.Response) -> None:
    if response.is_success or response.is_redirect:
        return
    status, detail = response.status_code, _detail(response)
    kinds = {404: NotFoundError, 409: ConflictError, 412: ConflictError}
    kind = kinds.get(status, UnavailableError if status in _RETRIED else ApiError)
    raise kind(status, detail, _problem(response))


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _detail(response: httpx.Response) -> str:
    problem = _problem(response)
    # A gateway before the API says "message".
    said = problem.get("detail") or problem.get("message")
    detail = str(said or response.reason_phrase or "request failed")
    errors = problem.get("errors") or []
    lines = [f"{error.get('pointer') or '/'}: {error.get('detail')}" for error in errors]
    return "\n  ".join([detail, *lines])
