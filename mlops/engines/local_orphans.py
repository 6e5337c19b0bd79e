"""Ends the processes of a job whose runner is gone."""

import contextlib
import os
from collections.abc import Iterator

import psutil

from mlops.jobs import JOB_DOCUMENT_ENV


def end_orphans(job_document: str, runner_pid: int | None, patience: float) -> None:
    """Kill what is left of the job that was told ``job_document``, and wait until it is gone.

    A process is the job's when its environment says so, or when it shares the runner's session
    with one whose environment does: a process id alone may belong to another program by now.

    Raises:
        TimeoutError: something is still there after ``patience`` seconds.
    """
    own = {process.pid: process for process in _told(job_document)}
    if runner_pid is not None and any(_session(pid) == runner_pid for pid in own):
        own |= {p.pid: p for p in psutil.process_iter() if _session(p.pid) == runner_pid}
    for process in own.values():
        # psutil compares the creation time first, so a reused process id is left alone.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _, alive = psutil.wait_procs(list(own.values()), timeout=patience)
    if alive:
        pids = ", ".join(str(process.pid) for process in alive)
        raise TimeoutError(f"processes {pids} of a lost job do not end: end them by hand")


def _told(job_document: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(JOB_DOCUMENT_ENV) == job_document:
                yield process


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None
