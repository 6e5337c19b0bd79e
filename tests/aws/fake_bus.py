"""EventBridge's PutEvents, which can be away, and remembers the order of what it took.

https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
"""

import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeBus:
    """A bus on a free port of this machine; `AWS_ENDPOINT_URL_EVENTBRIDGE` leads to it."""

    def __init__(self) -> None:
        self.away = False
        """Whether it answers 503, as AWS does when a service is not available."""
        self.refusing: set[str] = set()
        """Items whose events it refuses within an answer that went well."""
        self.taken: list[dict[str, Any]] = []
        """Details of the events, in the order in which they came, with `detail-type`."""
        bus = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if bus.away:
                    self._answer(503, {"__type": "ServiceUnavailableException"})
                else:
                    answers = [bus.take(entry) for entry in body["Entries"]]
                    failed = sum("ErrorCode" in one for one in answers)
                    self._answer(200, {"FailedEntryCount": failed, "Entries": answers})

            def _answer(self, status: int, answer: dict[str, Any]) -> None:
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def take(self, entry: dict[str, Any]) -> dict[str, str]:
        """What is answered for one entry."""
        detail = json.loads(entry["Detail"])
        if detail["item"] in self.refusing:
            return {"ErrorCode": "ThrottlingException", "ErrorMessage": "Rate exceeded"}
        self.taken.append({**detail, "detail-type": entry["DetailType"]})
        return {"EventId": str(uuid.uuid4())}

    def types_of(self, item: str) -> list[str]:
        """What came about an item, in order."""
        return [one["detail-type"] for one in self.taken if one["item"] == item]

    def __enter__(self) -> "FakeBus":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
