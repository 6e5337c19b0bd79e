"""Lambda's Runtime API: where a runtime asks for events and hands over its answers.

The other end is AWS's own runtime interface client (see `lambda_process`). Standard library only:
LocalStack's virtual environment uses this module too.
"""

import queue
import re
import sys
import threading
import uuid
from collections.abc import Mapping
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_ROOT = "/2018-06-01/runtime/"
_ID = re.compile(r"invocation/([^/]+)/(response|error)\Z")


@dataclass(frozen=True)
class Invocation:
    """One event on its way to the function."""

    payload: bytes
    deadline: float
    """Seconds since the epoch."""
    arn: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    trace: str = "Root=1-00000000-000000000000000000000000;Parent=0000000000000000;Sampled=0"


class FunctionError(Exception):
    """The function failed; the message has what it said and its log."""


class InitError(FunctionError):
    """The function did not come to wait for its first event."""


class QuietServer(ThreadingHTTPServer):
    """A server whose clients may end at any time: that is no error here."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell of what is one."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class RuntimeApi:
    """The HTTP API that a runtime asks for events and gives its answers to."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Invocation | None] = queue.SimpleQueue()
        self._answers: dict[str, Future[tuple[bytes, str | None]]] = {}
        self._restored = threading.Event()
        self.ready: Future[None] = Future()
        self.snapshot: Future[None] = Future()
        """Done when a SnapStart function has run its hooks before the snapshot."""
        api = self

        class Handler(_Requests):
            runtime = api

        self._server = QuietServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def send(self, invocation: Invocation) -> "Future[tuple[bytes, str | None]]":
        """Give an event to the runtime; the answer and its error type will be in the future."""
        answer: Future[tuple[bytes, str | None]] = Future()
        self._answers[invocation.id] = answer
        self._events.put(invocation)
        return answer

    def next(self) -> Invocation | None:
        """The next event; None when this API is closed."""
        _settle(self.ready, None)
        return self._events.get()

    def answer(self, identity: str, payload: bytes, error: str | None) -> bool:
        """Take an answer; whether anybody waits for it."""
        waiting = self._answers.pop(identity, None)
        if waiting is None:
            return False
        _settle(waiting, (payload, error))
        return True

    def fail(self, kind: str, payload: bytes) -> None:
        """The runtime is of no use any more: all who wait for it are told."""
        _settle(self.ready, InitError(f"{kind}: {payload.decode(errors='replace')}"))
        _settle(self.snapshot, InitError(f"{kind}: {payload.decode(errors='replace')}"))
        for identity in list(self._answers):
            self.answer(identity, payload, kind)

    def restore(self) -> None:
        """Go on from the snapshot, as Lambda does in another place and at another time."""
        self._restored.set()

    def wait_for_restore(self) -> None:
        """Held where Lambda takes the snapshot."""
        _settle(self.snapshot, None)
        self._restored.wait()

    def close(self) -> None:
        """Stop serving."""
        self._restored.set()
        self._events.put(None)
        self._server.shutdown()
        self._server.server_close()


def _settle(future: "Future[Any]", result: Any) -> None:
    try:
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
    except InvalidStateError:
        # It was settled before: the process ended after its last word, say.
        return


class _Requests(BaseHTTPRequestHandler):
    runtime: RuntimeApi
    protocol_version = "HTTP/1.1"
    # Head and body leave in one packet: apart, they meet the delayed acknowledgement of 40 ms.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        path = self.path.removeprefix(_ROOT)
        if path == "restore/next":
            self.runtime.wait_for_restore()
            self._reply(200)
            return
        if path != "invocation/next":
            self._reply(404)
            return
        event = self.runtime.next()
        if event is None:
            self.close_connection = True
            return
        self._reply(
            200,
            event.payload,
            {
                "Lambda-Runtime-Aws-Request-Id": event.id,
                "Lambda-Runtime-Deadline-Ms": str(int(event.deadline * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": event.arn,
                "Lambda-Runtime-Trace-Id": event.trace,
            },
        )

    def do_POST(self) -> None:
        body = self._body()
        path = self.path.removeprefix(_ROOT)
        kind = self.headers.get("Lambda-Runtime-Function-Error-Type", "Unhandled")
        if path in ("init/error", "restore/error"):
            self.runtime.fail(kind, body)
            self._reply(202)
            return
        named = _ID.match(path)
        known = named is not None and self.runtime.answer(
            named[1], body, kind if named[2] == "error" else None
        )
        self._reply(202 if known else 400)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _reply(self, status: int, body: bytes = b"", headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing: the function's own log is what matters."""
