"""Signals the runner of a job, and never another process."""

import os
import signal

from mlops.engines.local_folder import JobFolder


def terminate(job: JobFolder) -> None:
    """Send SIGTERM to the job's runner; nothing when it is gone or cannot be signalled yet.

    A runner that has not written ``runner.json`` finds the word that
    :meth:`~mlops.engines.local_folder.JobFolder.ask_to_stop` left.
    """
    runner = job.runner()
    if runner is None:
        return
    try:
        _send(int(runner["pid"]), job)
    except ProcessLookupError:
        return


def _send(pid: int, job: JobFolder) -> None:
    if not hasattr(os, "pidfd_open"):
        if _lives(job):
            os.kill(pid, signal.SIGTERM)
        return
    # The lock is asked after the descriptor is open: a runner that lives then is the one meant.
    descriptor = os.pidfd_open(pid)
    try:
        if _lives(job):
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
    finally:
        os.close(descriptor)


def _lives(job: JobFolder) -> bool:
    lock = job.try_lock()
    if lock is None:
        return True
    os.close(lock)
    return False
