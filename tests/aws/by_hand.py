"""The deployed system with nothing delivered by itself: a test takes each message out of its queue
and gives it to a function, as often and with such faults as it wants."""

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

from mlops.events import BusEvent, Function, queue_event
from tests.aws.cloud import Cloud, wait_for
from tests.aws.lambda_bootstrap import CRASHED
from tests.aws.lambda_process import LambdaProcess, Outcome

DRIVEN = ("LaunchRun", "TrackRun", "RegisterModel", "PublishResource", "Reconcile", "RelayOutbox")
CRASH = "LAMBDA_BOOTSTRAP_CRASH"


class ByHand:
    """Functions of the stack that a test calls, one healthy environment each."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self._healthy: dict[str, LambdaProcess] = {}
        self._sqs = cloud.localstack.client("sqs")
        self._taken: dict[str, list[BusEvent]] = {name: [] for name in DRIVEN}

    def deliver(self, function: str, *events: BusEvent) -> None:
        """Give events to a function; it has to take them."""
        if function not in self._healthy:
            self._healthy[function] = self.cloud.process(f"{function}Function")
        outcome = self._healthy[function].invoke(queue_json(*events))
        assert outcome.json() == {"batchItemFailures": []}, outcome.log

    def crash(self, function: str, after: int, *events: BusEvent) -> bool:
        """Give events to a function that dies after so many changes; whether it came to that."""
        with self.cloud.process(f"{function}Function", **{CRASH: str(after)}) as process:
            outcome = process.invoke(queue_json(*events))
        if outcome.error is None:
            assert outcome.json() == {"batchItemFailures": []}, outcome.log
            return False
        assert_crashed(outcome)
        return True

    def relay(self) -> None:
        """Hand on what is in the outbox."""
        self.deliver("RelayOutbox", nudge())

    def take(self, function: str, run: str) -> BusEvent:
        """The next event for a function that is about a run; it is taken from the queue."""

        def look() -> BusEvent | None:
            self._receive(function)
            for event in self._taken[function]:
                if run in json.dumps(event.detail):
                    self._taken[function].remove(event)
                    return event
            return None

        return wait_for(look, f"an event of {run} for {function}", tell=self.tell)

    def tell(self) -> str:
        """What the functions wrote, for the message of a test that failed."""
        return "\n".join(f"== {n}\n{one.log()[-4000:]}" for n, one in self._healthy.items())

    def _receive(self, function: str) -> None:
        url = self.cloud.stack.resources[f"{function}Queue"]
        while True:
            received = self._sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
            messages = received.get("Messages", [])
            if not messages:
                return
            for message in messages:
                self._taken[function].append(BusEvent.from_json(message["Body"]))
                self._sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    def close(self) -> None:
        """End the functions."""
        for process in self._healthy.values():
            process.stop()


def assert_crashed(outcome: Outcome) -> None:
    """The process ended where it was told to, and not otherwise."""
    assert outcome.error == "Runtime.ExitError", outcome.log
    assert f"status {CRASHED}" in outcome.payload.decode(), outcome.log


def queue_json(*events: BusEvent) -> dict[str, Any]:
    """Events as a function gets them from its queue."""
    return queue_event(
        [(f"{event.id}-{number}", event.to_json(), 1) for number, event in enumerate(events)],
        Function.LAUNCH_RUN,
    )


def nudge() -> BusEvent:
    """What tells the relay to look."""
    return BusEvent.from_json(
        json.dumps(
            {
                "id": "nudge",
                "source": "mlops.stac-api",
                "detail-type": "outbox.filled",
                "time": "2026-01-01T00:00:00Z",
                "detail": {},
            }
        )
    )


@contextlib.contextmanager
def by_hand(cloud: Cloud) -> Iterator[ByHand]:
    """Stop the event source mappings; start them again afterwards, with empty queues."""
    mappings = [cloud.stack.resources[f"{name}FunctionQueue"] for name in DRIVEN]
    _switch(cloud, mappings, enabled=False)
    hand = ByHand(cloud)
    try:
        yield hand
    finally:
        hand.close()
        for name in DRIVEN:
            url = cloud.stack.resources[f"{name}Queue"]
            cloud.localstack.client("sqs").purge_queue(QueueUrl=url)
        _switch(cloud, mappings, enabled=True)


def _switch(cloud: Cloud, mappings: list[str], *, enabled: bool) -> None:
    client = cloud.localstack.client("lambda")
    for mapping in mappings:
        client.update_event_source_mapping(UUID=mapping, Enabled=enabled)
    wanted = "Enabled" if enabled else "Disabled"
    for mapping in mappings:
        wait_for(
            lambda mapping=mapping: (  # type: ignore[misc]
                client.get_event_source_mapping(UUID=mapping)["State"] == wanted or None
            ),
            f"the mapping to be {wanted}",
        )
    # One that polls for a long time has its last look still to come.
    time.sleep(0.5)
