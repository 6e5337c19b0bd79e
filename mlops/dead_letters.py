"""Dead letters: messages that no retry could deliver, to look at and to send once more.

In the cloud they lie in a queue of SQS for each function; on one machine in a table.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

_QUEUE = "AWS::SQS::Queue"
_LETTERS = "DeadLetters"
_PEEK_SECONDS = 60
_BATCH = 10


class DeadLetterError(Exception):
    """There are no such dead letters; the message says where was looked."""


@dataclass(frozen=True)
class DeadLetter:
    """A message that its function never took. ``died`` is RFC 3339, or near to it."""

    id: str
    function: str
    body: str
    receives: int
    died: str
    error: str | None = None

    @property
    def event(self) -> dict[str, Any]:
        """The event that the message is; empty where it is none."""
        with suppress(ValueError):
            content = json.loads(self.body)
            if isinstance(content, dict):
                return content
        return {}

    @property
    def subject(self) -> str:
        """Type of the event, and the item or job that it is about."""
        event = self.event
        detail = event.get("detail")
        detail = detail if isinstance(detail, dict) else {}
        names = ("item", "TrainingJobName", "jobName")
        about = next((str(detail[name]) for name in names if detail.get(name)), "")
        return " ".join(part for part in (str(event.get("detail-type") or "?"), about) if part)


class DeadLetters(Protocol):
    """Where dead letters lie."""

    def read(self) -> list[DeadLetter]:
        """All of them, the newest last; they stay where they are."""
        ...

    def replay(self, letters: Sequence[DeadLetter]) -> None:
        """Put these back into the queues of their functions. A letter that was put back twice is
        delivered twice, which functions bear."""
        ...


@dataclass(frozen=True)
class _Held:
    """A letter that was received, and the receipt by which it is removed."""

    letter: DeadLetter
    receipt: str


class StackDeadLetters:
    """The dead letters of a stack of CloudFormation; a :class:`DeadLetters`.

    ``clients`` makes a boto3 client of a service.
    """

    def __init__(self, stack: str, clients: Any) -> None:
        self._stack = stack
        self._sqs = clients("sqs")
        self._queues = _queues(stack, clients("cloudformation"))

    def read(self) -> list[DeadLetter]:
        """All of them; for a moment, others cannot see them."""
        letters = []
        for function, (url, _) in self._queues.items():
            held = list(self._receive(function, url))
            self._release(url, held)
            letters += [one.letter for one in held]
        return sorted(letters, key=lambda letter: letter.died)

    def replay(self, letters: Sequence[DeadLetter]) -> None:
        """Send each to the queue where it died, then remove it from among the dead."""
        wanted = {(letter.function, letter.id) for letter in letters}
        for function, (url, source) in self._queues.items():
            if not any(function == name for name, _ in wanted):
                continue
            others = []
            for held in self._receive(function, url):
                if (function, held.letter.id) not in wanted:
                    others.append(held)
                    continue
                self._sqs.send_message(QueueUrl=source, MessageBody=held.letter.body)
                self._sqs.delete_message(QueueUrl=url, ReceiptHandle=held.receipt)
                wanted.discard((function, held.letter.id))
            self._release(url, others)
        if wanted:
            lost = ", ".join(sorted(identity for _, identity in wanted))
            raise DeadLetterError(f"not among the dead letters of {self._stack} any more: {lost}")

    def _receive(self, function: str, url: str) -> Iterator[_Held]:
        seen: set[str] = set()
        while True:
            answer = self._sqs.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=_BATCH,
                VisibilityTimeout=_PEEK_SECONDS,
                # A short poll asks some of SQS's servers only, and may miss what is there.
                WaitTimeSeconds=1,
                AttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
            # Where there are very many, the first are visible again before the last are read.
            messages = [m for m in answer.get("Messages", []) if m["MessageId"] not in seen]
            if not messages:
                return
            for message in messages:
                seen.add(message["MessageId"])
                yield _Held(_letter(function, message), message["ReceiptHandle"])

    def _release(self, url: str, held: Sequence[_Held]) -> None:
        for start in range(0, len(held), _BATCH):
            entries = [
                {"Id": str(n), "ReceiptHandle": one.receipt, "VisibilityTimeout": 0}
                for n, one in enumerate(held[start : start + _BATCH])
            ]
            self._sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries)


def _queues(stack: str, cloudformation: Any) -> dict[str, tuple[str, str]]:
    """By function: the URL of its dead letters, and that of its queue."""
    urls = {
        resource["LogicalResourceId"]: resource["PhysicalResourceId"]
        for page in cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack)
        for resource in page["StackResourceSummaries"]
        if resource["ResourceType"] == _QUEUE
    }
    found = {
        _function(name): (url, urls[f"{name.removesuffix(_LETTERS)}Queue"])
        for name, url in sorted(urls.items())
        if name.endswith(_LETTERS)
    }
    if not found:
        raise DeadLetterError(f"stack {stack} has no queues of dead letters: is it a stac-mlops?")
    return found


def _function(logical_id: str) -> str:
    """The function that a queue belongs to: ``launch_run`` for ``LaunchRunDeadLetters``."""
    name = logical_id.removesuffix(_LETTERS)
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def _letter(function: str, message: dict[str, Any]) -> DeadLetter:
    facts = message.get("Attributes", {})
    sent = datetime.fromtimestamp(int(facts.get("SentTimestamp", 0)) / 1000, UTC)
    told = message.get("MessageAttributes", {})
    # A rule that could not deliver to the queue says why; a function's own log has its reason.
    error = told.get("ERROR_MESSAGE", told.get("ERROR_CODE", {})).get("StringValue")
    return DeadLetter(
        id=message["MessageId"],
        function=function,
        body=message["Body"],
        receives=int(facts.get("ApproximateReceiveCount", 0)),
        died=sent.isoformat(timespec="seconds").replace("+00:00", "Z"),
        error=error,
    )
