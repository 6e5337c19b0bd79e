"""Tells the relay that there are events to hand on, as soon as they are committed."""

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from mlops.aws_clients import prompt_client

if TYPE_CHECKING:
    # The relay's package has no asyncpg.
    import asyncpg

logger = logging.getLogger(__name__)

_IS_WAITING = "SELECT EXISTS (SELECT FROM mlops.outbox)"
_MESSAGE = json.dumps({"source": "mlops.stac-api", "detail-type": "outbox.filled"})


class Nudge:
    """Sends messages to the relay's queue.

    After a write it looks into the outbox instead of remembering what was written: so every writer
    is covered, and a message that could not be sent is made good by the next write. ``client`` is
    boto3's; one is made from the environment when it is first needed and none is given.
    """

    def __init__(self, queue_url: str, client: Any = None) -> None:
        self._queue_url = queue_url
        self._client = client

    async def after_write(self, pool: "asyncpg.Pool") -> None:
        """Look, and send; to be called after each request that may have written.

        What was written is committed, and its answer stands whether the relay hears of it now or
        with the next sweep: so a failure is logged and not raised.
        """
        try:
            if await pool.fetchval(_IS_WAITING):
                await asyncio.to_thread(self.send)
        except Exception:
            logger.exception("the relay could not be told of new events; the sweep finds them")

    def send(self, seconds: int = 0) -> None:
        """Tell the relay, after ``seconds``, to look at the outbox."""
        if self._client is None:
            self._client = prompt_client("sqs")
        self._client.send_message(
            QueueUrl=self._queue_url, MessageBody=_MESSAGE, DelaySeconds=seconds
        )
