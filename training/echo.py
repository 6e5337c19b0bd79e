"""The job's log and metrics on the agent's standard output, where the platform collects them."""

import os
import threading
from itertools import groupby
from pathlib import Path

from training.spool import parse_lines

_SECONDS = 0.5
_CHUNK = 1 << 20


class Echo:
    """Copies to standard output what is appended to ``log``, and to the script's ``metrics``.

    A line of metrics is ``[mlops] step 3: train_loss=0.25 val_accuracy=0.9``: SageMaker finds
    metrics in a job's output by regular expressions.
    """

    def __init__(self, log: Path, metrics: Path) -> None:
        self._log, self._metrics = _Tail(log), _Tail(metrics)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="echo", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Copy what is left."""
        self._closing.set()
        self._thread.join()
        self._copy()

    def _run(self) -> None:
        while not self._closing.wait(_SECONDS):
            self._copy()

    def _copy(self) -> None:
        while lines := self._log.whole_lines():
            _write(lines)
        while lines := self._metrics.whole_lines():
            points, _, _ = parse_lines(lines)
            for step, group in groupby(points, key=lambda point: point.step):
                values = " ".join(f"{point.name}={point.value!r}" for point in group)
                _write(f"[mlops] step {step}: {values}\n".encode())


class _Tail:
    """An append-only file, read on by whole lines; a line longer than a chunk comes in parts."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def whole_lines(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                content = file.read(_CHUNK)
        except FileNotFoundError:
            return b""
        if len(content) < _CHUNK or b"\n" in content:
            content = content[: content.rfind(b"\n") + 1]
        self._offset += len(content)
        return content


def _write(content: bytes) -> None:
    while content:
        content = content[os.write(1, content) :]
