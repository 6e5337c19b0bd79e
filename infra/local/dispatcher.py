"""Carries events on one machine: from the outbox to the queues, from the queues to the handlers.

The handlers are those of the cloud and get the JSON that they get there. Nothing polls: the
database notifies of new rows, and the next retry or reconciliation bounds the wait.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg

from infra.local.queue import CHANNEL as QUEUE_CHANNEL
from infra.local.queue import LocalQueue, Message
from mlops.events import Function, queue_event, scheduled_event
from stac_api.outbox import CHANNEL as OUTBOX_CHANNEL
from stac_api.outbox import relay

logger = logging.getLogger(__name__)

Handler = Callable[[dict[str, Any], Any], dict[str, Any]]

_RECONCILE_EVERY = 60.0
_WORKERS = 4
_LONGEST_PAUSE = 10.0


class Dispatcher:
    """Delivers events to ``handlers`` until stopped; works through what waited at the start.

    ``when_away`` is called, from the dispatcher's thread, each time the database was found away.
    """

    def __init__(
        self,
        database_url: str,
        api_url: str,
        queue: LocalQueue,
        handlers: Mapping[Function, Handler],
        context: Callable[[Function], Any],
        when_away: Callable[[], None] | None = None,
    ) -> None:
        self._database_url = database_url
        self._api_url = api_url
        self._queue = queue
        self._handlers = handlers
        self._context = context
        self._when_away = when_away
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="function")
        self._busy = 0
        self._busy_lock = threading.Lock()
        self._next_reconcile: float | None = None

    def start(self) -> None:
        """Start delivering."""
        self._queue.release()
        self._next_reconcile = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Stop taking messages and wait for the handlers that run."""
        self._stopping.set()
        self._insist(self._queue.wake)
        self._thread.join()
        self._workers.shutdown(wait=True)

    def _run(self) -> None:
        pause = 0.1
        while not self._stopping.is_set():
            try:
                with psycopg.connect(self._database_url, autocommit=True) as connection:
                    connection.execute(f"LISTEN {OUTBOX_CHANNEL}")
                    connection.execute(f"LISTEN {QUEUE_CHANNEL}")
                    pause = 0.1
                    self._deliver(connection)
            except psycopg.Error as error:
                logger.warning("the database is away (%s); the dispatcher tries again", error)
                if self._when_away is not None and not self._stopping.is_set():
                    self._when_away()
                self._stopping.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _deliver(self, connection: psycopg.Connection[Any]) -> None:
        while not self._stopping.is_set():
            relay(connection, self._queue.publish_all, self._api_url)
            self._schedule_reconcile()
            while (free := self._free_workers()) and (messages := self._queue.take(free)):
                for message in messages:
                    self._submit(message)
            # Any notification ends the wait; those that came meanwhile are read at once.
            for _ in connection.notifies(timeout=self._patience(), stop_after=1):
                pass

    def _patience(self) -> float | None:
        """Seconds that may be waited for a notification; None is for ever."""
        waits = []
        if self._free_workers():
            waits.append(self._queue.seconds_to_next())
        if self._next_reconcile is not None:
            waits.append(max(0.0, self._next_reconcile - time.monotonic()))
        return min((wait for wait in waits if wait is not None), default=None)

    def _schedule_reconcile(self) -> None:
        """Reconcile while runs are open; disarmed after the last."""
        if not self._queue.has_open_runs():
            self._next_reconcile = None
            return
        now = time.monotonic()
        if self._next_reconcile is None:
            self._next_reconcile = now + _RECONCILE_EVERY
        elif self._next_reconcile <= now:
            self._next_reconcile = now + _RECONCILE_EVERY
            self._queue.publish(scheduled_event(f"reconcile-{time.time_ns()}"))

    def _free_workers(self) -> int:
        with self._busy_lock:
            return _WORKERS - self._busy

    def _submit(self, message: Message) -> None:
        with self._busy_lock:
            self._busy += 1
        self._workers.submit(self._handle, message)

    def _handle(self, message: Message) -> None:
        error = self._call(message)
        try:
            self._insist(lambda: self._settle(message, error))
        finally:
            with self._busy_lock:
                self._busy -= 1
            self._insist(self._queue.wake)

    def _settle(self, message: Message, error: str | None) -> None:
        if error is None:
            self._queue.delivered(message)
        elif self._queue.failed(message, error):
            logger.error(
                "message %s of %s is a dead letter: %s", message.id, message.function, error
            )

    def _insist(self, act: Callable[[], None]) -> None:
        """Do something on the database, again while it is away; given up when stopping."""
        while True:
            try:
                act()
            except psycopg.Error as error:
                logger.warning("the queue is away: %s", error)
                if self._stopping.wait(1.0):
                    return
            else:
                return

    def _call(self, message: Message) -> str | None:
        """Call the handler; the error when it failed or reported the message as failed."""
        event = queue_event([(str(message.id), message.body, message.receives)], message.function)
        try:
            answer = self._handlers[message.function](event, self._context(message.function))
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is a failed delivery
            logger.warning("%s raised: %s", message.function, error)
            return f"{type(error).__name__}: {error}"
        if (answer or {}).get("batchItemFailures"):
            return f"{message.function} reported a failure; its log says more"
        return None
