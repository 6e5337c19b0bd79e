"""What a job keeps for the next one: its checkpoints, and the metrics and log up to here.

All of it lies in the checkpoint folder, which comes back when a spot instance was taken away or a
new attempt begins. SageMaker copies that folder to the object store and back by itself; elsewhere
:class:`Checkpoints` does.
"""

import contextlib
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlops.storage import ObjectStore
from training.contract import WorkFolders
from training.staging import StoppedError

KEPT_FOLDER = ".mlops"
"""Below the checkpoint folder: the agent's own."""
_SECONDS = 15.0

Note = Callable[[str], None]


class KeptFile:
    """An append-only file of this job, copied to the end of what earlier containers wrote."""

    def __init__(self, source: Path, kept: Path) -> None:
        self._source, self.path = source, kept
        # An agent started anew on the same disk has kept what it wrote before.
        self._copied = source.stat().st_size if source.exists() else 0
        kept.parent.mkdir(parents=True, exist_ok=True)
        content = kept.read_bytes() if kept.exists() else b""
        # The copy of a container that was killed may end within a line.
        whole = content.rfind(b"\n") + 1
        with kept.open("ab") as file:
            file.truncate(whole)
        self.earlier = whole
        """How many bytes earlier containers wrote."""

    def save(self) -> None:
        """Append what is new."""
        if not self._source.exists():
            return
        with self._source.open("rb") as source:
            source.seek(self._copied)
            fresh = source.read()
        if fresh:
            with self.path.open("ab") as kept:
                kept.write(fresh)
            self._copied += len(fresh)


@dataclass(frozen=True)
class _Seen:
    """A file as it was when it was looked at."""

    size: int
    modified: int


class Checkpoints:
    """The checkpoint folder in the object store, under ``prefix``.

    ``store`` is None where the platform copies the folder by itself.
    """

    def __init__(
        self, folders: WorkFolders, store: ObjectStore | None, prefix: str, note: Note
    ) -> None:
        self._folders, self._folder = folders, folders.checkpoints
        self._store, self._prefix, self._note = store, prefix, note
        self._looked_at: dict[Path, _Seen] = {}
        self._stored: dict[Path, _Seen] = {}
        self._kept: tuple[KeptFile, ...] = ()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)

    def restore(self, stopping: threading.Event) -> None:
        """Bring back what an earlier job of the run kept; a file that cannot be read raises."""
        if self._store is None:
            return
        count = 0
        for key in self._store.keys(self._prefix):
            if stopping.is_set():
                raise StoppedError
            path = self._folder / key.removeprefix(self._prefix)
            if not path.resolve().is_relative_to(self._folder.resolve()):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            self._store.get_file(key, path)
            self._stored[path] = self._looked_at[path] = _look(path)
            count += 1
        if count:
            self._note(f"{count} files of checkpoints were brought back")

    def keep(self, attempt: int) -> tuple[KeptFile, KeptFile]:
        """Begin to copy; the files that hold the run's whole metrics and the attempt's whole log.

        The log of another attempt is not this one's: the API tells them apart, too.
        """
        own = self._folder / KEPT_FOLDER
        metrics = KeptFile(self._folders.metrics, own / "metrics.jsonl")
        log = KeptFile(self._folders.log, own / f"log-{attempt}.txt")
        self._kept = (metrics, log)
        self._thread.start()
        return metrics, log

    def close(self) -> None:
        """Copy what is left, once nothing writes any more."""
        if self._thread.is_alive():
            self._closing.set()
            self._thread.join()
            self._copy(final=True)

    def forget(self) -> None:
        """Remove the copies of a run that is done; a bucket's lifecycle does it by itself."""
        if self._store is not None:
            for key in list(self._store.keys(self._prefix)):
                self._store.delete(key)

    def _run(self) -> None:
        while not self._closing.wait(_SECONDS):
            self._copy(final=False)

    def _copy(self, final: bool) -> None:
        try:
            for kept in self._kept:
                kept.save()
            if self._store is not None:
                self._upload(self._store, final)
        except Exception:  # noqa: BLE001 - a checkpoint that cannot be kept must not end the training
            self._note(f"checkpoints could not be kept now:\n{traceback.format_exc()}")

    def _upload(self, store: ObjectStore, final: bool) -> None:
        """Store what changed, oldest first: what names other files is written after them."""
        for path, seen in sorted(self._changed(final), key=lambda change: change[1].modified):
            with contextlib.suppress(FileNotFoundError):  # the script has removed it meanwhile
                store.put_file(f"{self._prefix}{path.relative_to(self._folder).as_posix()}", path)
                self._stored[path] = seen

    def _changed(self, final: bool) -> list[tuple[Path, _Seen]]:
        changed = []
        for path in sorted(self._folder.rglob("*")):
            try:
                if not path.is_file() or path.name.startswith(".part-"):
                    continue
                seen = _look(path)
            except FileNotFoundError:
                # The script replaced or removed it since the folder was listed.
                continue
            own = path.parent.name == KEPT_FOLDER
            # A file that still grows is not whole: it is stored when it has come to rest.
            rests = final or own or self._looked_at.get(path) == seen
            self._looked_at[path] = seen
            if rests and self._stored.get(path) != seen:
                changed.append((path, seen))
        return changed


def _look(path: Path) -> _Seen:
    status = path.stat()
    return _Seen(status.st_size, status.st_mtime_ns)
