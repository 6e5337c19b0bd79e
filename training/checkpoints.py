"""What a job keeps for the next one: its checkpoints, and the metrics and log up to here.

All of it lies in the checkpoint folder, which comes back when a spot instance was taken away or a
new attempt begins. SageMaker copies that folder to the object store and back by itself; elsewhere
:class:`Checkpoints` does.
"""

import contextlib
import shutil
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlops.storage import ObjectStore
from training.contract import WorkFolders
from training.staging import StoppedError

KEPT_FOLDER = ".mlops"
"""Below the checkpoint folder: the agent's own."""
_HELD = ".part-held"
_SECONDS = 10.0
_KEEP_SECONDS = 1.0
_REST_SECONDS = 5.0

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

    file: int
    size: int
    modified: float

    def is_whole(self, before: "_Seen | None") -> bool:
        """Whether it is likely that nobody writes to it any more.

        It has come to rest, or took the place of the one that was seen ``before``.
        """
        replaced = before is not None and before.file != self.file
        return replaced or before == self or time.time() - self.modified > _REST_SECONDS


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
        # A platform copies the folder whenever it likes: there nothing may lag behind for long.
        pause = _KEEP_SECONDS if self._store is None else _SECONDS
        while not self._closing.wait(pause):
            self._copy(final=False)

    def _copy(self, final: bool) -> None:
        try:
            changed = [] if self._store is None else self._hold(final)
            # After the checkpoints are held: metrics are never older than what goes on from them.
            self._save_kept()
            if self._store is not None:
                self._upload(self._store, changed)
        except Exception:  # noqa: BLE001 - a checkpoint that cannot be kept must not end the training
            self._note(f"checkpoints could not be kept now:\n{traceback.format_exc()}")

    def _save_kept(self) -> None:
        for kept in self._kept:
            kept.save()

    def _hold(self, final: bool) -> list[tuple[Path, _Seen]]:
        """What changed, each under a second name: so the very file is stored that was looked at,
        also when the script puts another in its place."""
        held = self._folder / KEPT_FOLDER / _HELD
        shutil.rmtree(held, ignore_errors=True)
        holding = []
        for path, seen in self._changed(final):
            name = held / path.relative_to(self._folder)
            name.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # the script has removed it meanwhile
                name.hardlink_to(path)
                holding.append((path, seen))
        return holding

    def _upload(self, store: ObjectStore, changed: list[tuple[Path, _Seen]]) -> None:
        """Store the kept files, then what changed, oldest first: what names other files is
        written after them."""
        held = self._folder / KEPT_FOLDER / _HELD
        for kept in self._kept:
            seen = _look(kept.path)
            if self._stored.get(kept.path) != seen:
                store.put_file(self._key(kept.path), kept.path)
                self._stored[kept.path] = seen
        for path, seen in sorted(changed, key=lambda change: change[1].modified):
            store.put_file(self._key(path), held / path.relative_to(self._folder))
            self._stored[path] = seen
        shutil.rmtree(held, ignore_errors=True)

    def _key(self, path: Path) -> str:
        return f"{self._prefix}{path.relative_to(self._folder).as_posix()}"

    def _changed(self, final: bool) -> list[tuple[Path, _Seen]]:
        changed = []
        for path in sorted(self._folder.rglob("*")):
            try:
                if KEPT_FOLDER in path.relative_to(self._folder).parts or path.name.startswith(
                    ".part-"
                ):
                    continue
                if not path.is_file():
                    continue
                seen = _look(path)
            except FileNotFoundError:
                # The script replaced or removed it since the folder was listed.
                continue
            whole = final or seen.is_whole(self._looked_at.get(path))
            self._looked_at[path] = seen
            if whole and self._stored.get(path) != seen:
                changed.append((path, seen))
        return changed


def _look(path: Path) -> _Seen:
    status = path.stat()
    return _Seen(status.st_ino, status.st_size, status.st_mtime)
