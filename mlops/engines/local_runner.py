"""Runs one job of the local engine and writes down how it ended.

Started by its path with ``python -I -S``, so it imports little and stays near 10 MB. It outlives
the service that started it: the exit code is written by the one process that waits for the job.

Arguments: job folder, descriptor of the folder's lock (held as long as this process lives),
``max_runtime`` and ``grace`` in seconds, and the job's command. The environment is the job's.
SIGTERM ends the job: SIGTERM to its process group, SIGKILL to what is left after ``grace``.
"""

import json
import os
import select
import signal
import sys
import time

STDOUT_FILE = "stdout.log"
STDERR_FILE = "stderr.log"
RUNNER_FILE = "runner.json"
STOP_FILE = "stop"
EXIT_FILE = "exit.json"

_PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> int:
    """Run the job, write ``exit.json``."""
    folder, lock, max_runtime, grace, *command = arguments
    os.set_inheritable(int(lock), False)
    os.chdir(folder)
    if os.path.exists(EXIT_FILE):  # noqa: PTH110 - pathlib costs a megabyte in every runner
        return 0
    wake = _catch_signals()
    _adopt_orphans()
    started = time.time()
    # Only now may a stop be signalled: one that came earlier left its file.
    write_json(RUNNER_FILE, {"pid": os.getpid(), "started": started})
    if os.path.exists(STOP_FILE):  # noqa: PTH110
        write_json(EXIT_FILE, {"started": None, "finished": time.time(), "ended_by": "stop"})
        return 0
    ending = _run(command, wake, float(max_runtime), float(grace))
    write_json(EXIT_FILE, {"started": started, "finished": time.time(), **ending})
    return 0


def write_json(name: str, content: dict[str, object]) -> None:
    """Write a file of this folder; readers see all of it or nothing."""
    part = f".part-{name}"
    with open(part, "w") as file:  # noqa: PTH123
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, name)  # noqa: PTH105


def _run(command: list[str], wake: int, max_runtime: float, grace: float) -> dict[str, object]:
    begun = time.monotonic()
    try:
        pid = _spawn(command)
    except OSError as error:
        return {"error": f"{command[0]}: {error.strerror}", "seconds": 0.0}
    status, peak, ended_by = _wait(pid, wake, begun + max_runtime, grace)
    seconds = time.monotonic() - begun
    _end_what_is_left(pid)
    exited = os.WIFEXITED(status)
    return {
        "code": os.WEXITSTATUS(status) if exited else None,
        "signal": None if exited else os.WTERMSIG(status),
        "ended_by": ended_by,
        "seconds": seconds,
        "peak_rss": peak,
    }


def _spawn(command: list[str]) -> int:
    write = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawnp(
        command[0],
        command,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, STDOUT_FILE, write, 0o600),
            (os.POSIX_SPAWN_OPEN, 2, STDERR_FILE, write, 0o600),
        ],
        setpgroup=0,
        # Python ignores these two, and what is ignored stays ignored in a new program.
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
    )


def _wait(pid: int, wake: int, deadline: float, grace: float) -> tuple[int, int, str | None]:
    """Wait for the job; give its wait status, its peak memory in bytes, and who ended it."""
    ended_by: str | None = None
    kill_at = float("inf")
    while True:
        ended = _reap(pid)
        if ended is not None:
            return (*ended, ended_by)
        now = time.monotonic()
        if now >= kill_at:
            _signal_group(pid, signal.SIGKILL)
            kill_at = float("inf")
        if ended_by is None and now >= deadline:
            ended_by, kill_at = "time limit", now + grace
            _signal_group(pid, signal.SIGTERM)
        until = kill_at if ended_by else deadline
        if signal.SIGTERM in _signals(wake, until - now) and ended_by is None:
            ended_by, kill_at = "stop", time.monotonic() + grace
            _signal_group(pid, signal.SIGTERM)


def _reap(pid: int) -> tuple[int, int] | None:
    """Collect every child that has ended; the job's status and peak memory when it is one."""
    ended = None
    while True:
        try:
            child, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if child == 0:
            return ended
        if child == pid:
            ended = status, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _end_what_is_left(group: int) -> None:
    """Kill the rest of the job: its group, and what left the group and was adopted by us."""
    while True:
        _signal_group(group, signal.SIGKILL)
        for child in _children():
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            os.wait()
        except ChildProcessError:
            return


def _children() -> list[int]:
    if not os.path.isdir("/proc/self"):  # noqa: PTH112
        return []
    own, found = os.getpid(), []
    for name in os.listdir("/proc"):  # noqa: PTH208
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat") as file:  # noqa: PTH123
                parent = int(file.read().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == own:
            found.append(int(name))
    return found


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        # macOS answers PermissionError for a group of which only a zombie is left.
        return


def _catch_signals() -> int:
    """Let SIGTERM and SIGCHLD wake a pipe instead of interrupting; gives its reading end."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return read


def _signals(wake: int, timeout: float) -> bytes:
    """Sleep until a signal comes or ``timeout`` seconds have passed; give the signals' numbers."""
    wait = None if timeout == float("inf") else max(0.0, timeout)
    readable, _, _ = select.select([wake], [], [], wait)
    return os.read(wake, 4096) if readable else b""


def _adopt_orphans() -> None:
    """Become the parent of whatever the job leaves behind, so that none of it outlives the job."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
