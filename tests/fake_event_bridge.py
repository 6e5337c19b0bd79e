"""EventBridge's PutEvents over HTTP, as AWS documents it, with refusals by script."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Entry = dict[str, Any]


class FakeEventBridge:
    """Keeps each call with its entries, and which of them it took.

    ``refuse`` says whether an entry is refused; ``down`` lets every call fail.
    """

    def __init__(self) -> None:
        self.calls: list[list[Entry]] = []
        self.taken: list[Entry] = []
        self.refuse: Callable[[Entry], bool] = lambda _: False
        self.down = False
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where boto3 finds it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def put(self, entries: list[Entry]) -> Entry:
        """What PutEvents answers."""
        with self._lock:
            self.calls.append(entries)
            answers = []
            for entry in entries:
                if self.refuse(entry):
                    answers.append({"ErrorCode": "InternalFailure", "ErrorMessage": "told to"})
                else:
                    self.taken.append(entry)
                    answers.append({"EventId": f"event-{len(self.taken)}"})
            failed = sum("ErrorCode" in answer for answer in answers)
        return {"FailedEntryCount": failed, "Entries": answers}

    def details(self) -> list[Entry]:
        """The details of what was taken, in the order in which it was."""
        with self._lock:
            return [json.loads(entry["Detail"]) for entry in self.taken]

    def __enter__(self) -> "FakeEventBridge":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(bus: FakeEventBridge) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.headers["X-Amz-Target"] == "AWSEvents.PutEvents"
            if bus.down:
                answer = {"__type": "InternalException", "message": "the bus is down"}
                status = 500
            else:
                answer, status = bus.put(body["Entries"]), 200
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Silent."""

    return Handler
