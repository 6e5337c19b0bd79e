"""The engine of one machine: jobs are its child processes, a bounded number at a time.

Each job is run by a small process of its own (:mod:`mlops.engines.local_runner`), so jobs go on,
and their exit codes are kept, while the service that started them is away. :meth:`recover` finds
them again.
"""

import logging
import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mlops.engines import JobHandle, JobSpec, JobState, Phase, local_runner
from mlops.engines.local_folder import JOB_FILE, WORK_DIR_ENV, JobFolder, job_folders
from mlops.engines.local_orphans import FOLDER_ENV, end_orphans
from mlops.engines.local_signal import terminate
from mlops.jobs import JOB_DOCUMENT_ENV, JobDocument

_logger = logging.getLogger(__name__)
_NAME = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9-]{0,127}\Z")
_RUNNER_LOG = "runner.log"
_PATIENCE = 10.0  # seconds; the kernel ends what gets SIGKILL sooner, unless a disk hangs

OnChange = Callable[[JobDocument, JobState], None]

PASSED_ON = frozenset(
    {
        "CUDA_VISIBLE_DEVICES",
        "HOME",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "LD_LIBRARY_PATH",
        "LOGNAME",
        "NO_PROXY",
        "OMP_NUM_THREADS",
        "PATH",
        "PYTHONPATH",
        "SHELL",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TMPDIR",
        "TZ",
        "USER",
        "VIRTUAL_ENV",
        "https_proxy",
        "http_proxy",
        "no_proxy",
    }
)
"""Variables of the service that a job gets; all others, its secrets among them, stay away."""


class LocalEngine:
    """Runs jobs as processes of this machine; an :class:`~mlops.engines.Engine`.

    Args:
        folder: where each job has a folder of its own; made when it is not there.
        slots: how many jobs run at once; the rest wait, first come, first served.
        on_change: told of each job's end, from any thread, until it returns without raising; also
            after a restart, so the same end may be told twice.
        grace: seconds between SIGTERM and SIGKILL.
        command: the job's program; the training job when left out.
        environment: variables that every job gets beside those of :data:`PASSED_ON`, for example
            the credentials of an S3 object store.
    """

    name = "local"

    def __init__(
        self,
        folder: Path,
        slots: int,
        on_change: OnChange,
        grace: float = 10.0,
        command: Sequence[str] = (sys.executable, "-m", "training.job"),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        if slots < 1:
            raise ValueError(f"slots is {slots}: the local engine needs at least one")
        self.folder = folder.resolve()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.slots = slots
        self.grace = grace
        self._on_change = on_change
        self._command = tuple(command)
        self._environment = dict(environment or {})
        self._lock = threading.Lock()
        self._queue: deque[str] = deque()
        self._running: set[str] = set()
        self._closed = threading.Event()

    def start(self, job: JobSpec) -> JobHandle:
        """Queue ``job``, or find the one already there under its name."""
        if not _NAME.match(job.name):
            raise ValueError(f"job name {job.name!r} is not valid: letters, digits and hyphens")
        folder = self._job(job.name)
        with self._lock:
            if not folder.exists:
                folder.create(job)
                self._queue.append(job.name)
        self._fill_slots()
        return JobHandle(self.name, job.name, folder.path.as_uri())

    def describe(self, job_id: str) -> JobState:
        """Say where the job stands."""
        if not _NAME.match(job_id):
            return JobState(Phase.UNKNOWN)
        return self._job(job_id).state()

    def stop(self, job_id: str) -> None:
        """End the job and all it started; returns before a running one has ended."""
        if not _NAME.match(job_id):
            return
        job = self._job(job_id)
        with self._lock:
            if not job.exists or job.is_over:
                return
            queued = job_id in self._queue
            if queued:
                self._queue.remove(job_id)
                job.end(ended_by="stop")
        if queued:
            self._in_thread(self._report, job)
            return
        job.ask_to_stop()
        terminate(job)

    def recover(self) -> None:
        """Take up what an earlier service left: call once, before the first :meth:`start`.

        Running jobs are watched again, queued ones queued again in their order, lost ones ended,
        and ends that were not told are told.
        """
        with self._lock:
            for job in job_folders(self.folder):
                if job.name in self._running or job.name in self._queue:
                    continue
                self._take_up(job)
        self._fill_slots()

    def close(self) -> None:
        """Stop watching; jobs go on, for the next service to recover."""
        self._closed.set()

    def _take_up(self, job: JobFolder) -> None:
        if job.is_over:
            if not job.is_acknowledged:
                self._in_thread(self._report, job)
            return
        lock = job.try_lock()
        if lock is not None:
            os.close(lock)
            if job.may_start:
                self._queue.append(job.name)
                return
        job.drop_secrets()
        self._running.add(job.name)
        self._in_thread(self._watch, job, None)

    def _fill_slots(self) -> None:
        with self._lock:
            while self._queue and len(self._running) < self.slots and not self._closed.is_set():
                job = self._job(self._queue.popleft())
                self._running.add(job.name)
                self._in_thread(self._watch, job, self._launch(job))

    def _launch(self, job: JobFolder) -> subprocess.Popen[bytes] | None:
        """Start the job's runner; None when it could not be, which is then the job's end."""
        lock = job.try_lock()
        if lock is None:
            return None
        # The runner inherits the lock: it is held from its birth to its death.
        runner = [sys.executable, "-I", "-S", local_runner.__file__, str(job.path), str(lock)]
        limits = [str(job.max_runtime), str(self.grace)]
        try:
            with (job.path / _RUNNER_LOG).open("ab") as log:
                return subprocess.Popen(
                    [*runner, *limits, *self._command],
                    env=self._job_environment(job),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[lock],
                    start_new_session=True,
                )
        except OSError as error:
            _logger.exception("job %s could not be started", job.name)
            job.end(error=f"this machine gave no process for it ({error})", not_started=True)
            return None
        finally:
            os.close(lock)
            job.drop_secrets()

    def _job_environment(self, job: JobFolder) -> dict[str, str]:
        passed = {name: value for name, value in os.environ.items() if name in PASSED_ON}
        told = {
            JOB_DOCUMENT_ENV: str(job.path / JOB_FILE),
            FOLDER_ENV: str(job.path),
            WORK_DIR_ENV: str(job.work),
        }
        return {**passed, **self._environment, **job.secrets(), **told}

    def _watch(self, job: JobFolder, runner: subprocess.Popen[bytes] | None) -> None:
        """Wait for the job's end without polling, free its slot, and tell."""
        try:
            if runner is not None:
                runner.wait()
            with job.without_runner():
                if self._closed.is_set():
                    return
                self._settle(job)
        finally:
            with self._lock:
                self._running.discard(job.name)
            self._fill_slots()
        self._report(job)

    def _settle(self, job: JobFolder) -> None:
        if job.is_over:
            return
        runner = job.runner() or {}
        try:
            end_orphans(str(job.path), runner.get("pid"), _PATIENCE)
        except TimeoutError:
            _logger.exception("job %s is lost", job.name)
        job.end(lost=True, started=runner.get("started"))

    def _report(self, job: JobFolder) -> None:
        pause = 1.0
        while not self._closed.is_set():
            try:
                self._on_change(job.document(), job.state())
            except Exception:
                _logger.exception("the end of job %s could not be told; trying again", job.name)
                self._closed.wait(pause)
                pause = min(2 * pause, 60.0)
            else:
                job.remove_work()
                job.acknowledge()
                return

    def _job(self, name: str) -> JobFolder:
        return JobFolder(self.folder / name)

    def _in_thread(self, target: Callable[..., None], *arguments: object) -> None:
        name = f"{target.__name__.strip('_')}-job"
        threading.Thread(target=target, args=arguments, name=name, daemon=True).start()
