"""Ends the processes of a job whose runner is gone."""

import contextlib
import os
import time
from collections.abc import Iterator

import psutil

_INTERVAL = 0.05
FOLDER_ENV = "MLOPS_JOB_FOLDER"
"""Names the job's folder in the environment of all its processes: they are known by it."""


def end_orphans(folder: str, runner_pid: int | None, patience: float) -> None:
    """Kill what is left of the job of ``folder``, and wait until it is gone.

    A process is the job's when its environment says so, or when it shares the runner's session
    with one whose environment does: a process id alone may belong to another program by now.

    Raises:
        TimeoutError: something is still there after ``patience`` seconds.
    """
    own = {process.pid: process for process in _named(folder)}
    if runner_pid is not None and any(_session(pid) == runner_pid for pid in own):
        own |= {p.pid: p for p in psutil.process_iter() if _session(p.pid) == runner_pid}
    for process in own.values():
        # psutil compares the creation time first, so a reused process id is left alone.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    deadline = time.monotonic() + patience
    alive = list(own.values())
    while alive and time.monotonic() < deadline:
        _, left = psutil.wait_procs(alive, timeout=_INTERVAL)
        alive = [process for process in left if not _has_ended(process)]
    if alive:
        pids = ", ".join(str(process.pid) for process in alive)
        raise TimeoutError(f"processes {pids} of a lost job do not end: end them by hand")


def _named(folder: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(FOLDER_ENV) == folder:
                yield process


def _has_ended(process: psutil.Process) -> bool:
    """Whether only its parent, which may be slow, has yet to take note of its end."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None
