"""Telling the API what a job does, in the background and without ever holding the training up.

Metrics and log wait in their files while the API is away (:mod:`training.spool`) and are sent when
it is back. The API's word that the run has ended, or that a newer attempt runs, ends the job.
"""

import secrets
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Any

from mlops.api import Api, ApiError, ConflictError, NotFoundError, UnavailableError
from mlops.jobs import JobDocument
from training.spool import LogTail, MetricsSpool

HEARTBEAT_SECONDS = 10.0
_INTERVAL = 0.5
_LONGEST_PAUSE = 5.0

Note = Callable[[str], None]


class Standing(Enum):
    """How the API stands to this job."""

    OPEN = "open"
    OVER = "over"
    """The run has ended, was deleted, or has a newer attempt: there is no one to report to."""
    REFUSED = "refused"
    """The API does not accept what this job sends, and would not accept it later."""


class Reporter:
    """Sends a job's reports.

    ``running`` holds the properties of the first patch, which says that the job runs; ``note``
    writes a line to the job's log; ``on_end`` is called once, from the reporter's thread, when the
    standing is no longer open.
    """

    def __init__(
        self,
        api: Api,
        document: JobDocument,
        *,
        spool: MetricsSpool,
        log: LogTail,
        running: dict[str, Any],
        note: Note,
        on_end: Callable[[], None],
    ) -> None:
        self._api, self._document = api, document
        self._spool, self._log = spool, log
        self._running: dict[str, Any] | None = running
        self._note, self._on_end = note, on_end
        self._closing = threading.Event()
        self._hurry = threading.Event()
        self._away = False
        self._log_begin: int | None = None
        self._last_metrics = 0.0
        self.standing = Standing.OPEN
        self.reason = ""
        """Why the standing is no longer open."""
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Begin to report."""
        self._thread.start()

    def hurry(self) -> None:
        """Wait no longer for an API that is away: the job is being stopped."""
        self._hurry.set()

    def close(self, patience: float) -> bool:
        """End the background reports and send all that is left; False when it was not taken.

        While the API is away it is tried again for ``patience`` seconds.
        """
        self._closing.set()
        self._thread.join()
        return self._deliver(lambda: self._send_pending(final=True), patience)

    def patch_run(self, patch: dict[str, Any], patience: float) -> bool:
        """Merge-patch the run's item, in the name of this attempt; False when it was not taken."""
        return self._deliver(lambda: self._patch(patch), patience)

    def patch_ended_run(self, patch: dict[str, Any]) -> bool:
        """Merge-patch a run that has ended already; False when the API does not want it."""
        try:
            self._patch(patch)
        except ApiError as error:
            self._note(f"the API did not take the outputs of the ended run: {error}")
            return False
        return True

    def _run(self) -> None:
        pause = _INTERVAL
        while not self._closing.wait(pause) and self.standing is Standing.OPEN:
            arrived = self._attempt(lambda: self._send_pending(final=False))
            pause = _INTERVAL if arrived else min(pause * 2, _LONGEST_PAUSE)

    def _deliver(self, send: Callable[[], None], patience: float) -> bool:
        deadline, pause = time.monotonic() + patience, _INTERVAL
        while self.standing is Standing.OPEN:
            if self._attempt(send):
                return True
            if self._hurry.is_set() or time.monotonic() + pause > deadline:
                return False
            self._hurry.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        return False

    def _attempt(self, send: Callable[[], None]) -> bool:
        """Send once; False when it has to be tried again or the standing has changed."""
        try:
            send()
        except (ConflictError, NotFoundError) as error:
            self._end(Standing.OVER, str(error))
            return False
        except UnavailableError as error:
            self._waits(str(error))
            return False
        except ApiError as error:
            if error.status >= 500:
                self._waits(str(error))
            else:
                self._end(Standing.REFUSED, str(error))
            return False
        if self._away:
            self._away = False
            self._note("the API is back")
        return True

    def _send_pending(self, final: bool) -> None:
        if self._running is not None:
            self._patch({"properties": self._running})
            self._running = None
        self._send_metrics(final)
        if self._log_begin is None:
            # Where an engine restarts an attempt on a fresh disk, its log goes on in the record.
            self._log_begin = self._append_log(0, b"") if self._log.is_fresh else 0
        while chunk := self._log.next_chunk(final):
            self._append_log(self._log_begin + chunk.offset, chunk.content)
            self._log.acknowledge(chunk)
        if time.monotonic() - self._last_metrics >= HEARTBEAT_SECONDS:
            self._post(f"{self._document.attempt}-heartbeat-{secrets.token_hex(8)}", [], None)

    def _append_log(self, offset: int, text: bytes) -> int:
        run = self._document
        return self._api.append_log(
            run.collection, run.item, attempt=run.attempt, offset=offset, text=text
        )

    def _send_metrics(self, final: bool) -> None:
        while batch := self._spool.next_batch(final):
            if batch.points or batch.progress is not None:
                points = [point.to_json() for point in batch.points]
                self._post(batch.id, points, batch.progress)
            self._spool.acknowledge(batch)
            for reason in batch.rejected:
                self._note(reason)

    def _post(self, batch: str, points: list[dict[str, Any]], progress: float | None) -> None:
        run = self._document
        self._api.send_metrics(
            run.collection,
            run.item,
            batch=batch,
            attempt=run.attempt,
            points=points,
            progress=progress,
        )
        self._last_metrics = time.monotonic()

    def _patch(self, patch: dict[str, Any]) -> None:
        # The attempt travels with every patch: the API refuses one of an older attempt.
        run = self._document
        properties = {"mlops:attempt": run.attempt, **patch.get("properties", {})}
        self._api.merge_patch(run.collection, run.item, {**patch, "properties": properties})

    def _waits(self, reason: str) -> None:
        if not self._away:
            self._away = True
            self._note(f"the API does not take reports, which are kept and sent later: {reason}")

    def _end(self, standing: Standing, reason: str) -> None:
        self.standing, self.reason = standing, reason
        self._note(f"the API takes no more reports of this job: {reason}")
        self._on_end()
