"""Who submits a job to an engine that would start it twice.

AWS Batch gives every SubmitJob a new job. So whoever wants to submit first claims the job's name by
an object that can be created once (``If-None-Match``), submits, and writes the engine's id into it.
A claim without id says that somebody is submitting, or died over it: then the engine is asked by
name, and a claim that is too old for its owner to be alive is taken over (``If-Match``).
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, ConfigDict

from mlops.engines import EngineBusyError
from mlops.storage import MissingObjectError, keys
from mlops.storage.s3 import S3Store

_LIMIT = 1 << 16
_SOON = 5.0
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)

Find = Callable[[str, str], str | None]
"""Asks the engine for the job of a name in a queue; its id, or None."""


class Submission(BaseModel):
    """A job's submission: ``submission.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    claimant: str
    claimed: datetime
    queue: str
    job_id: str | None = None


@dataclass(frozen=True)
class Claim:
    """The right to submit a job, for a while."""

    name: str
    submission: Submission
    etag: str


class Submissions:
    """The submissions in an object store.

    Args:
        store: where they lie.
        find: asks the engine by name.
        lifetime: after which a claim's owner is dead for sure.
        now: the time, UTC.
    """

    def __init__(
        self,
        store: S3Store,
        find: Find,
        lifetime: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._find = find
        self._lifetime = lifetime
        self._now = now

    def claim(self, name: str, queue: str) -> Claim | str:
        """The right to submit the job, or the id of the one that was submitted.

        Raises:
            EngineBusyError: somebody else is about to submit it.
        """
        own = Submission(claimant=secrets.token_hex(8), claimed=self._now(), queue=queue)
        etag = self._store.put_if_absent(keys.job_submission(name), _json(own))
        if etag is not None:
            return Claim(name, own, etag)
        try:
            present, present_etag = self._read(name)
        except MissingObjectError:
            raise EngineBusyError(f"the claim on job {name} was just removed", _SOON) from None
        if present.claimant == own.claimant:
            # The first answer was lost on the way and the client asked again.
            return Claim(name, present, present_etag)
        if present.job_id is not None:
            return present.job_id
        return self._resolve(name, present, present_etag, own)

    def check_fresh(self, claim: Claim) -> None:
        """Raise :class:`EngineBusyError` when the claim may be taken over before it is used."""
        if self._now() - claim.submission.claimed > self._lifetime / 2:
            raise EngineBusyError(f"the claim on job {claim.name} grew too old", _SOON)

    def record(self, claim: Claim, job_id: str) -> str:
        """Write down the id; the id that counts, which is another's if the claim was taken over.

        Raises:
            EngineBusyError: the claim was taken over and has no id yet.
        """
        content = _json(claim.submission.model_copy(update={"job_id": job_id}))
        if self._store.put_if_same(keys.job_submission(claim.name), content, claim.etag):
            return job_id
        present, _ = self._read(claim.name)
        if present.job_id is None:
            raise EngineBusyError(f"the claim on job {claim.name} was taken over", _SOON)
        return present.job_id

    def release(self, claim: Claim) -> None:
        """Let the next one submit at once: the engine has certainly not taken the job."""
        old = claim.submission.model_copy(update={"claimed": _LONG_AGO})
        self._store.put_if_same(keys.job_submission(claim.name), _json(old), claim.etag)

    def job_id(self, name: str) -> str | None:
        """The engine's id of a job by its name; None when it was not submitted."""
        try:
            present, _ = self._read(name)
        except MissingObjectError:
            return None
        return present.job_id or self._find(name, present.queue)

    def _resolve(self, name: str, present: Submission, etag: str, own: Submission) -> Claim | str:
        found = self._find(name, present.queue)
        if found is not None:
            return self.record(Claim(name, present, etag), found)
        age = self._now() - present.claimed
        if age < self._lifetime:
            wait = (self._lifetime - age).total_seconds() + 1
            raise EngineBusyError(f"job {name} is being submitted by somebody else", wait)
        taken = self._store.put_if_same(keys.job_submission(name), _json(own), etag)
        if taken is None:
            raise EngineBusyError(f"the claim on job {name} was taken over", _SOON)
        return Claim(name, own, taken)

    def _read(self, name: str) -> tuple[Submission, str]:
        content, etag = self._store.get_with_etag(keys.job_submission(name), _LIMIT)
        return Submission.model_validate_json(content), etag


def _json(submission: Submission) -> bytes:
    return submission.model_dump_json().encode()
