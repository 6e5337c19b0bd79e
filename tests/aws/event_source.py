"""Lambda's event source mapping with real concurrency, which LocalStack's has not.

As many execution environments as the template's `MaximumConcurrency` take batches from a queue of
the stack, side by side; what a function does not report as failed is deleted.
"""

import json
import threading
import time
from typing import Any

from tests.aws.cloud import Cloud
from tests.aws.lambda_process import LambdaProcess


class EventSource:
    """Feeds a function of the stack from its queue while it is open.

    ``variables`` are set in the environments of its processes beside those of the stack.
    """

    def __init__(self, cloud: Cloud, function: str, **variables: str) -> None:
        events = cloud.template["Resources"][f"{function}Function"]["Properties"]["Events"]
        source = events["Queue"]["Properties"]
        self._batch = int(source["BatchSize"])
        self._queue = cloud.stack.resources[f"{function}Queue"]
        self._sqs = cloud.localstack.client("sqs")
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self.processes = [
            cloud.process(f"{function}Function", **variables)
            for _ in range(int(source["ScalingConfig"]["MaximumConcurrency"]))
        ]
        self._threads = [
            threading.Thread(target=self._feed, args=(one,), daemon=True) for one in self.processes
        ]
        self.messages = 0
        """How many messages were handled well."""
        self.failed = 0
        """How many deliveries failed."""
        self.busy_seconds = 0.0
        """Time that functions worked, all together."""

    def __enter__(self) -> "EventSource":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        for thread in self._threads:
            thread.join()
        for process in self.processes:
            process.stop()

    def _feed(self, process: LambdaProcess) -> None:
        while not self._closed.is_set():
            received = self._sqs.receive_message(
                QueueUrl=self._queue,
                MaxNumberOfMessages=self._batch,
                WaitTimeSeconds=1,
                MessageSystemAttributeNames=["All"],
            )
            messages = received.get("Messages", [])
            if messages:
                self._handle(process, messages)

    def _handle(self, process: LambdaProcess, messages: list[dict[str, Any]]) -> None:
        begin = time.perf_counter()
        outcome = process.invoke({"Records": [_record(one) for one in messages]})
        seconds = time.perf_counter() - begin
        failed = {one["MessageId"] for one in messages}
        if outcome.error is None:
            reported = json.loads(outcome.payload)["batchItemFailures"]
            failed = {one["itemIdentifier"] for one in reported}
        done = [one for one in messages if one["MessageId"] not in failed]
        if done:
            self._sqs.delete_message_batch(
                QueueUrl=self._queue,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": one["ReceiptHandle"]}
                    for number, one in enumerate(done)
                ],
            )
        with self._lock:
            self.messages += len(done)
            self.failed += len(failed)
            self.busy_seconds += seconds


def _record(message: dict[str, Any]) -> dict[str, Any]:
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": {},
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:local:000000000000:queue",
        "awsRegion": "local",
    }
