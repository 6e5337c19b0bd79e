"""Running the training script as a child process, and reading from its log why it failed."""

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.torchrun import first_failure

# Of eight processes each writes its own traceback.
_TAIL_BYTES = 128 << 10
_LONGEST_REASON = 500
_LAST_LINES = 3

# The last line of a traceback: a dotted class name, then its message.
_EXCEPTION = re.compile(
    r"^(?:[A-Za-z_]\w*\.)*(?P<name>[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Warning|Fault))"
    r"(?::\s*(?P<message>.*))?$"
)


class Script:
    """A child process in this process's own group, its output in a file.

    The engine ends a job by its group, so the script must not leave it.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
        grace: float = 5.0,
    ) -> None:
        self._command, self._environment = list(command), dict(environment)
        self._folder, self._log, self._grace = folder, log, grace
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._killer: threading.Timer | None = None
        self._stopped = False

    def run(self) -> int | None:
        """Start the script and wait for its end: its return code, as :mod:`subprocess` has it.

        None when it was stopped before it started.
        """
        with self._lock:
            if self._stopped:
                return None
            with self._log.open("ab") as output:
                self._process = subprocess.Popen(
                    self._command,
                    env=self._environment,
                    cwd=self._folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
        try:
            return self._process.wait()
        finally:
            with self._lock:
                if self._killer is not None:
                    self._killer.cancel()

    def stop(self) -> None:
        """Ask the script to end; after the grace period it is killed. Safe from any thread."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            if self._process is None:
                return
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            self._killer = threading.Timer(self._grace, self._kill)
            self._killer.daemon = True
            self._killer.start()

    def _kill(self) -> None:
        with self._lock:
            if self._process is not None:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()


@dataclass(frozen=True)
class Failure:
    """Why a script failed, in one line, and whether another machine was the cause."""

    reason: str
    elsewhere: bool = False


def find_failure(code: int, log: Path, log_offset: int) -> Failure:
    """Why a script failed.

    ``code`` is its return code, ``log`` what it wrote from ``log_offset`` on. The message of the
    exception that ended it is preferred; without one, the last lines are shown.
    """
    if code < 0:
        return Failure(_killed_reason(-code))
    lines = _last_lines(log, log_offset)
    if (failure := first_failure(lines)) is not None:
        if failure.code < 0:
            return Failure(_killed_reason(-failure.code))
        if failure.lost_peer:
            reason = (
                "another host of the job was lost, or its part of the training failed: "
                "the engine's log of that host says why"
            )
            return Failure(reason, elsewhere=True)
        code, lines = failure.code, failure.lines
    detail = _exception(lines) or " | ".join(lines[-_LAST_LINES:]) or "it wrote nothing to its log"
    return Failure(shortened(f"the training script failed with exit code {code}: {detail}"))


def shortened(text: str) -> str:
    """One line of at most 500 characters, cut at its end."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 1] + "…"


def _killed_reason(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    reason = f"the training script was killed by {name}"
    if number == signal.SIGKILL:
        reason += (
            ", most often because the machine ran out of memory: "
            "use less data at once (a smaller batch_size or max_pixels) or a larger machine"
        )
    return reason


def _last_lines(log: Path, offset: int) -> list[str]:
    with log.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(offset, end - _TAIL_BYTES))
        text = file.read().decode(errors="replace")
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def _exception(lines: list[str]) -> str | None:
    """The last exception in a log, with what its message says on the lines after it."""
    for index in range(len(lines) - 1, -1, -1):
        if match := _EXCEPTION.match(lines[index]):
            first = match["message"] or ""
            message = " ".join([first, *(line.strip() for line in lines[index + 1 :])]).strip()
            return f"{match['name']}: {message}" if message else match["name"]
    return None
