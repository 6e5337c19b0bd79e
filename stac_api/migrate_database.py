"""Brings the database to this version: a custom resource of CloudFormation.

Create and Update migrate, which is safe to repeat; Delete leaves the data where it is.
CloudFormation waits for an answer for an hour, so it gets one whatever happens: also when what does
the work cannot be imported, and also before Lambda ends a call that takes too long.

Protocol: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref.html
"""

import json
import logging
import threading
import time
import urllib.error
import urllib.request
from typing import Any

logger = logging.getLogger(__name__)

RESOURCE = "stac-mlops-database"
"""The same for every version, so that CloudFormation never thinks that one was replaced."""
_MARGIN = 15.0
_PAUSE = 2.0
_MOST_REASON = 1500
_ANSWER_TRIES = 4


class Answer:
    """The one answer to a request of CloudFormation; whoever gives it first counts."""

    def __init__(self, event: dict[str, Any]) -> None:
        self._event = event
        self._lock = threading.Lock()
        self._given = False

    def give(self, status: str, reason: str = "", data: dict[str, Any] | None = None) -> None:
        """Send the answer, unless one was sent."""
        with self._lock:
            if self._given:
                return
            self._given = True
            body = {
                "Status": status,
                "Reason": reason[:_MOST_REASON] or f"see the log of {RESOURCE}",
                "PhysicalResourceId": self._event.get("PhysicalResourceId") or RESOURCE,
                "StackId": self._event["StackId"],
                "RequestId": self._event["RequestId"],
                "LogicalResourceId": self._event["LogicalResourceId"],
                "Data": data or {},
            }
            _put(self._event["ResponseURL"], json.dumps(body).encode())


def handler(event: dict[str, Any], context: Any) -> None:
    """AWS Lambda's entry point."""
    answer = Answer(event)
    seconds = context.get_remaining_time_in_millis() / 1000 - _MARGIN
    late = threading.Timer(
        max(seconds, 1.0),
        answer.give,
        (
            "FAILED",
            "The migration takes longer than the function may: give it more time, or "
            "migrate by hand. What was not finished is rolled back.",
        ),
    )
    late.daemon = True
    late.start()
    try:
        applied = [] if event["RequestType"] == "Delete" else _migrate(time.monotonic() + seconds)
    except Exception as error:
        # Not raised again: Lambda would repeat a request that has its answer.
        logger.exception("the database could not be migrated")
        answer.give("FAILED", f"{type(error).__name__}: {error}")
    else:
        answer.give("SUCCESS", data={"Applied": ", ".join(applied) or "nothing"})
    finally:
        late.cancel()


def _migrate(end: float) -> list[str]:
    # Here, so that an answer is given also when one of these cannot be imported.
    from stac_api.database import database_of
    from stac_api.logs import log_json
    from stac_api.migrate import migrate
    from stac_api.settings import DatabaseSettings

    log_json("INFO")
    database = database_of(DatabaseSettings())
    _wait_for(database, end)
    applied = migrate(database.url())
    logger.info("migrated", extra={"applied": applied})
    return applied


def _wait_for(database: Any, end: float) -> None:
    """Wait until the database answers: it may be new, or wake from a pause."""
    import psycopg

    while True:
        try:
            psycopg.connect(database.url(), connect_timeout=10).close()
        except psycopg.OperationalError as error:
            if time.monotonic() + _PAUSE > end:
                raise
            logger.info("the database does not answer yet: %s", error)
            database.refresh()
            time.sleep(_PAUSE)
        else:
            return


def _put(url: str, body: bytes) -> None:
    """PUT to the presigned URL of the request; no content type, which is not in its signature."""
    for tries_left in reversed(range(_ANSWER_TRIES)):
        request = urllib.request.Request(url, body, {"Content-Type": ""}, method="PUT")  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=10):  # noqa: S310 - CloudFormation's URL
                return
        except urllib.error.URLError:
            if not tries_left:
                logger.exception("CloudFormation could not be answered")
                raise
            time.sleep(_PAUSE)
