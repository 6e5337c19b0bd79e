"""Runs that wait for an engine that takes no more now: back into the queue, for a while.

Waiting is no failure. A message that is delivered again and again would end as a dead letter after
a few times; one that is put back as a new message with a delay may wait as long as it takes.
"""

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from mlops.events import BusEvent

LONGEST = 900.0
"""Seconds that SQS can delay a message for."""
_LONGEST_PAUSE = 300.0
_SHARE_OF_WAIT = 0.1


class LaunchQueue:
    """The queue of ``launch_run``. ``client`` is boto3's, made from the environment if missing."""

    def __init__(self, url: str, client: Any = None) -> None:
        if client is None:
            import boto3

            client = boto3.client("sqs")
        self._client = client
        self._url = url

    def postpone(self, event: BusEvent, seconds: float) -> None:
        """Deliver ``event`` after ``seconds``, at most :data:`LONGEST`."""
        delay = math.ceil(min(max(seconds, 0.0), LONGEST))
        self._client.send_message(
            QueueUrl=self._url, MessageBody=event.to_json(), DelaySeconds=delay
        )


def pause(retry_after: float, waiting_since: datetime, now: datetime | None = None) -> timedelta:
    """How long a run waits before it is tried again.

    What the engine asks for at least, more for one that waits long already, so that thousands of
    them ask seldom; jittered, so that they do not ask together.
    """
    waited = ((now or datetime.now(UTC)) - waiting_since).total_seconds()
    wanted = max(retry_after, min(waited * _SHARE_OF_WAIT, _LONGEST_PAUSE))
    # Jitter is no secret: any spread will do.
    jittered = min(wanted, LONGEST) * random.uniform(0.75, 1.0)  # noqa: S311
    return timedelta(seconds=max(jittered, 1.0))
