"""The event bus of the cloud: Amazon EventBridge."""

import json
from collections.abc import Sequence
from typing import Any

from mlops.events import BusEvent

MOST_ENTRIES = 10
"""How many events one call of PutEvents takes."""
MOST_BYTES = 256 << 10
"""How large all the events of one call may be together."""


class BusRefusedError(Exception):
    """EventBridge took the request but not the event; publishing may be tried again."""


class EventBridgeBus:
    """Puts events on an EventBridge bus; an :class:`~mlops.events.EventBus`.

    ``client`` is boto3's; one is made from the environment when none is given.
    """

    def __init__(self, name: str, client: Any = None) -> None:
        if client is None:
            import boto3

            client = boto3.client("events")
        self._client = client
        self._name = name

    def publish(self, event: BusEvent) -> None:
        """Hand an event over.

        Raises:
            BusRefusedError: EventBridge answered with an error for the event.
        """
        (refusal,) = self.publish_together([event])
        if refusal is not None:
            raise BusRefusedError(refusal)

    def publish_together(self, events: Sequence[BusEvent]) -> list[str | None]:
        """Hand at most :data:`MOST_ENTRIES` events over in one call, which keeps no order.

        The answer has, for each event, None when the bus has it, else why it has not.
        """
        answer = self._client.put_events(Entries=[self._entry(event) for event in events])
        return [
            None
            if "ErrorCode" not in entry
            else f"{entry['ErrorCode']}: {entry.get('ErrorMessage', 'no reason was given')}"
            for entry in answer["Entries"]
        ]

    def size(self, event: BusEvent) -> int:
        """How many bytes of :data:`MOST_BYTES` an event takes, as EventBridge counts them.

        Method: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html
        """
        entry = self._entry(event)
        texts = [entry["Source"], entry["DetailType"], entry["Detail"], *entry["Resources"]]
        return 14 + sum(len(text.encode()) for text in texts)

    def _entry(self, event: BusEvent) -> dict[str, Any]:
        return {
            "Time": event.time,
            "Source": event.source,
            "DetailType": event.detail_type,
            "Detail": json.dumps(event.detail),
            "Resources": event.resources,
            "EventBusName": self._name,
        }
