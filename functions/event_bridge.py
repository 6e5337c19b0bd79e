"""The event bus of the cloud: Amazon EventBridge."""

import json
from typing import Any

from mlops.events import BusEvent


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
        answer = self._client.put_events(
            Entries=[
                {
                    "Time": event.time,
                    "Source": event.source,
                    "DetailType": event.detail_type,
                    "Detail": json.dumps(event.detail),
                    "Resources": event.resources,
                    "EventBusName": self._name,
                }
            ]
        )
        if answer["FailedEntryCount"]:
            entry = answer["Entries"][0]
            raise BusRefusedError(f"{entry.get('ErrorCode')}: {entry.get('ErrorMessage')}")
