"""The clock of EventBridge's schedules: LocalStack never looks at a rule again once it is made.

It sends what EventBridge sends, to the targets of a rule, while the rule is enabled; oftener than
the rule says, so that tests need not wait for minutes.
"""

import json
import threading
import uuid
from datetime import UTC, datetime
from typing import Any

from tests.aws.account import ACCOUNT, REGION
from tests.aws.emulator import LocalStack

_SECONDS = 4.0


class Scheduler:
    """Runs one rule's schedule, in a thread of its own."""

    def __init__(self, localstack: LocalStack, rule: str) -> None:
        self._events = localstack.client("events")
        self._sqs = localstack.client("sqs")
        self._rule = rule
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.ticks = 0
        """How often it sent something."""

    def __enter__(self) -> "Scheduler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()

    @property
    def is_armed(self) -> bool:
        """Whether the rule is enabled."""
        return bool(self._events.describe_rule(Name=self._rule)["State"] == "ENABLED")

    def _run(self) -> None:
        while not self._closed.wait(_SECONDS):
            if self.is_armed:
                self._tick()

    def _tick(self) -> None:
        self.ticks += 1
        for target in self._events.list_targets_by_rule(Rule=self._rule)["Targets"]:
            name = target["Arn"].rpartition(":")[2]
            url = self._sqs.get_queue_url(QueueName=name)["QueueUrl"]
            self._sqs.send_message(QueueUrl=url, MessageBody=json.dumps(self._event()))

    def _event(self) -> dict[str, Any]:
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": ACCOUNT,
            "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": REGION,
            "resources": [f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{self._rule}"],
            "detail": {},
        }
