"""The folder of one local job: its files, its lock, and what they say of its state.

``job.json`` is the job document, ``queued.json`` says since when it waits, ``secrets.json`` holds
its secrets until it starts, the runner writes ``runner.json`` and ``exit.json``. The runner holds
a lock on the file ``lock`` as long as it lives: whether it lives is asked of the lock, never of a
process id that another process may have by now.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from mlops.engines import JobSpec, JobState, Phase
from mlops.engines.local_reasons import explain
from mlops.engines.local_runner import EXIT_FILE, RUNNER_FILE, STOP_FILE
from mlops.jobs import JobDocument

WORK_DIR_ENV = "MLOPS_WORK_DIR"
"""Tells a job where to stage its data and to work; removed when it has ended."""
_NEW = ".new-"
JOB_FILE = "job.json"
_QUEUED_FILE = "queued.json"
_SECRETS_FILE = "secrets.json"
_ACKNOWLEDGED_FILE = "acknowledged"
_LOCK_FILE = "lock"


class JobFolder:
    """One job's folder; cheap to make, it holds nothing in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name

    @property
    def exists(self) -> bool:
        """Whether there is such a job."""
        return (self.path / JOB_FILE).is_file()

    def create(self, job: JobSpec) -> None:
        """Write the job down; it is there with all of its files, or not at all."""
        new = self.path.with_name(f"{_NEW}{secrets.token_hex(8)}")
        new.mkdir(mode=0o700)
        queued = {"time_ns": time.time_ns(), "max_runtime": job.max_runtime}
        _write(new / JOB_FILE, job.document.model_dump_json())
        _write(new / _QUEUED_FILE, json.dumps(queued))
        _write(new / _SECRETS_FILE, json.dumps(job.secrets))
        _write(new / _LOCK_FILE, "")
        new.rename(self.path)

    def document(self) -> JobDocument:
        """What the job was told."""
        return JobDocument.model_validate_json((self.path / JOB_FILE).read_text())

    @property
    def queued_ns(self) -> int:
        """When the job was queued, in nanoseconds since 1970: the order of the queue."""
        return int(_read(self.path / _QUEUED_FILE)["time_ns"])

    @property
    def max_runtime(self) -> int:
        """Seconds after which the job is ended."""
        return int(_read(self.path / _QUEUED_FILE)["max_runtime"])

    def secrets(self) -> dict[str, str]:
        """The job's secrets; there only while it is queued."""
        return cast(dict[str, str], _read(self.path / _SECRETS_FILE))

    def drop_secrets(self) -> None:
        """Remove the secrets from the disk."""
        (self.path / _SECRETS_FILE).unlink(missing_ok=True)

    @property
    def may_start(self) -> bool:
        """Whether the job was queued and no runner has touched it."""
        secrets_left = (self.path / _SECRETS_FILE).is_file()
        return secrets_left and not self.is_over and self.runner() is None

    @property
    def is_over(self) -> bool:
        """Whether the job has ended."""
        return (self.path / EXIT_FILE).is_file()

    def runner(self) -> dict[str, Any] | None:
        """The runner's ``pid`` and when it ``started`` (seconds since 1970)."""
        path = self.path / RUNNER_FILE
        return _read(path) if path.is_file() else None

    def ask_to_stop(self) -> None:
        """Leave word for a runner that cannot be signalled yet."""
        _write(self.path / STOP_FILE, "")

    def end(self, **ending: Any) -> None:
        """Write how the job ended, for a job whose runner cannot; the first word stays."""
        if not self.is_over:
            _write(self.path / EXIT_FILE, json.dumps({"finished": time.time(), **ending}))
        self.drop_secrets()

    @property
    def is_acknowledged(self) -> bool:
        """Whether the end of the job was told to whom it concerns."""
        return (self.path / _ACKNOWLEDGED_FILE).is_file()

    @property
    def work(self) -> Path:
        """Where the job works."""
        return self.path / "work"

    def remove_work(self) -> None:
        """Free the disk of what the job staged: what counts was uploaded."""
        if self.work.exists():
            shutil.rmtree(self.work)

    def acknowledge(self) -> None:
        """Note that the end of the job was told."""
        _write(self.path / _ACKNOWLEDGED_FILE, "")

    def state(self) -> JobState:
        """Where the job stands."""
        if not self.exists:
            return JobState(Phase.UNKNOWN)
        if self.is_over:
            return _ended(_read(self.path / EXIT_FILE))
        runner = self.runner()
        if runner is None:
            return JobState(Phase.QUEUED)
        return JobState(Phase.RUNNING, started=_time(runner["started"]))

    def try_lock(self) -> int | None:
        """Take the lock; a descriptor that holds it until closed, None when a runner lives."""
        descriptor = os.open(self.path / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    @contextlib.contextmanager
    def without_runner(self) -> Iterator[None]:
        """Wait until no runner lives; none can start until the block is left."""
        descriptor = os.open(self.path / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def job_folders(folder: Path) -> list[JobFolder]:
    """Every job below ``folder``, the longest queued first; removes half-made ones."""
    jobs = []
    for path in folder.iterdir():
        if path.name.startswith(_NEW):
            shutil.rmtree(path)
        elif (path / JOB_FILE).is_file():
            jobs.append(JobFolder(path))
    return sorted(jobs, key=lambda job: job.queued_ns)


def _ended(ending: dict[str, Any]) -> JobState:
    phase, reason = explain(ending)
    # A job that the engine ended did not choose its exit code.
    code = None if ending.get("ended_by") else ending.get("code")
    return JobState(
        phase=phase,
        exit_code=code,
        reason=reason,
        started=_time(ending.get("started")),
        finished=_time(ending.get("finished")),
        billed_seconds=ending.get("seconds"),
        retryable=phase is Phase.LOST or bool(ending.get("not_started")) or code == 3,
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _read(path: Path) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads(path.read_text()))


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".part-{secrets.token_hex(4)}-{path.name}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
