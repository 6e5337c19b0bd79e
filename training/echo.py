"""The job's log on the agent's standard output, where the platform collects it."""

import os
import threading
from pathlib import Path

_SECONDS = 0.5
_CHUNK = 1 << 20


class Echo:
    """Copies what is appended to ``log`` to standard output, until it is closed."""

    def __init__(self, log: Path) -> None:
        self._log, self._offset = log, 0
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
        if not self._log.exists():
            return
        with self._log.open("rb") as log:
            log.seek(self._offset)
            while content := log.read(_CHUNK):
                self._offset += len(content)
                while content:
                    content = content[os.write(1, content) :]
