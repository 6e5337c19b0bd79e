"""The server of the fakes, and what moves their time."""

import json
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from tests.aws.fake_engines.batch import FakeBatch
from tests.aws.fake_engines.clock import Clock, ManualClock
from tests.aws.fake_engines.faults import AwsError, LostAnswerError
from tests.aws.fake_engines.sagemaker import FakeSageMaker
from tests.aws.fake_engines.service import ACCOUNT, REGION

_TICK = 0.05
Event = dict[str, Any]


class FakeEngines:
    """SageMaker and Batch behind one address.

    Args:
        clock: a :class:`ManualClock`, which :meth:`advance` moves, unless another one is given;
            a clock that runs needs ``running=True``.
        running: whether jobs go on, and events are emitted, by themselves.
    """

    def __init__(self, clock: Clock | None = None, *, running: bool = False) -> None:
        self.clock = clock or ManualClock()
        self.sagemaker = FakeSageMaker(self.clock)
        self.batch = FakeBatch(self.clock)
        self.on_event: Callable[[Event], None] | None = None
        """Gets each event as EventBridge delivers it to a rule's target."""
        self.deliver: Callable[[list[Event]], list[Event]] = list
        """What becomes of the events of one moment: to lose, double or shuffle them."""
        self.events: list[Event] = []
        """All events that AWS would have emitted."""
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        if running:
            self._threads.append(threading.Thread(target=self._run, daemon=True))

    @property
    def url(self) -> str:
        """Where they answer."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def environment(self) -> dict[str, str]:
        """Variables that lead boto3 to the fakes."""
        return {
            "AWS_ENDPOINT_URL_SAGEMAKER": self.url,
            "AWS_ENDPOINT_URL_BATCH": self.url,
            "AWS_DEFAULT_REGION": REGION,
        }

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass, event by event."""
        end = self.clock.now() + seconds
        self.tick()
        while (due := self._next_due()) is not None and due <= end:
            self.clock.advance(max(0.0, due - self.clock.now()))
            self.tick()
        self.clock.advance(max(0.0, end - self.clock.now()))
        self.tick()

    def tick(self) -> None:
        """Let happen what is due by now."""
        with self._lock:
            happened = [*self.sagemaker.tick(), *self.batch.tick()]
            emitted = [_bus_event(one) for one in happened]
            self.events += emitted
        for one in self.deliver(emitted):
            if self.on_event is not None:
                self.on_event(one)

    def call(self, service: str, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """Answer an API call."""
        self.tick()
        with self._lock:
            fake = self.sagemaker if service == "sagemaker" else self.batch
            return fake.call(operation, request)

    def __enter__(self) -> "FakeEngines":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=_TICK)

    def _next_due(self) -> float | None:
        with self._lock:
            times = [self.sagemaker.next_due(), self.batch.next_due()]
        return min((time for time in times if time is not None), default=None)

    def _run(self) -> None:
        while not self._closed.wait(_TICK):
            self.tick()


def _bus_event(happened: dict[str, Any]) -> Event:
    time = datetime.fromtimestamp(happened["at"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "source": happened["source"],
        "detail-type": happened["detail-type"],
        "account": ACCOUNT,
        "region": REGION,
        "time": time,
        "resources": happened["resources"],
        # What is emitted is a moment's picture: it does not change with the job.
        "detail": json.loads(json.dumps(happened["detail"])),
    }


_BATCH_PATHS = {
    "/v1/submitjob": "SubmitJob",
    "/v1/describejobs": "DescribeJobs",
    "/v1/listjobs": "ListJobs",
    "/v1/terminatejob": "TerminateJob",
    "/v1/describejobqueues": "DescribeJobQueues",
    "/v1/describejobdefinitions": "DescribeJobDefinitions",
    "/v1/describecomputeenvironments": "DescribeComputeEnvironments",
}


def _handler(fakes: FakeEngines) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = 1 << 16  # head and body leave in one piece, or wait for an acknowledgement

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = json.loads(body or b"{}")
            target = self.headers.get("X-Amz-Target", "")
            try:
                if target.startswith("SageMaker."):
                    answer = fakes.call("sagemaker", target.partition(".")[2], request)
                else:
                    answer = fakes.call("batch", _BATCH_PATHS[self.path], request)
            except LostAnswerError:
                self.close_connection = True
                return
            except AwsError as error:
                content = {"__type": error.code, "message": error.message}
                self._answer(error.status, content, {"x-amzn-ErrorType": error.code})
                return
            self._answer(200, answer, {})

        def _answer(self, status: int, answer: dict[str, Any], headers: dict[str, str]) -> None:
            content = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
            self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Tests say what they want to say."""

    return Handler
