"""Reading what the training script appends to its metrics file and log, and never losing a byte.

The files themselves are the spool: what the API has not acknowledged yet is read again. A cursor
beside each file says how far that is, so an agent started anew goes on where the last one stopped.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from training.metrics_file import MetricLineError, Point, parse_line

# The API takes 1 MB of JSON a batch; a line grows a little when its time is filled in.
_METRICS_BYTES = 256 << 10
_LOG_BYTES = 256 << 10


@dataclass(frozen=True)
class Chunk:
    """A piece of an append-only file."""

    offset: int
    content: bytes

    @property
    def end(self) -> int:
        """The offset after the piece."""
        return self.offset + len(self.content)


@dataclass(frozen=True)
class Batch:
    """Metrics to send at once. The same bytes of the same attempt always have the same ``id``."""

    id: str
    end: int
    points: list[Point]
    progress: float | None
    rejected: list[str] = field(default_factory=list)
    """What was wrong with lines that are no metrics."""


class FileTail:
    """Reads an append-only file piece by piece; ``cursor`` keeps the place over a restart.

    A piece is announced to the cursor before it is handed out, so that after a restart the same
    piece, cut at the same place, comes again: whoever counts pieces by their place counts it once.
    """

    def __init__(self, path: Path, cursor: Path) -> None:
        self._path, self._cursor = path, cursor
        self._done, self._announced = _read_cursor(cursor)

    @property
    def offset(self) -> int:
        """How many bytes are acknowledged."""
        return self._done

    @property
    def is_fresh(self) -> bool:
        """Whether nothing was announced yet."""
        return self._announced == 0

    def read(self, limit: int) -> bytes:
        """Up to ``limit`` bytes after what is acknowledged; an announced piece comes as it was."""
        if self._announced > self._done:
            limit = self._announced - self._done
        try:
            with self._path.open("rb") as file:
                file.seek(self._done)
                return file.read(limit)
        except FileNotFoundError:
            return b""

    def announce(self, length: int) -> Chunk:
        """Take the next ``length`` bytes as one piece."""
        content = self.read(length)
        self._announced = self._done + len(content)
        self._write()
        return Chunk(self._done, content)

    def acknowledge(self, end: int) -> None:
        """Everything before ``end`` has arrived."""
        self._done = self._announced = end
        self._write()

    def _write(self) -> None:
        part = self._cursor.with_name(f".part-{self._cursor.name}")
        part.write_text(json.dumps({"done": self._done, "announced": self._announced}))
        part.replace(self._cursor)


class MetricsSpool:
    """Cuts a metrics file into batches of whole lines."""

    def __init__(self, path: Path, attempt: int) -> None:
        self._tail = FileTail(path, path.with_suffix(".cursor"))
        self._attempt = attempt

    def next_batch(self, final: bool = False) -> Batch | None:
        """The next batch, the same one until it is acknowledged; None when there is none.

        A line still without its newline is left for later, unless ``final`` says that no more will
        be written.
        """
        content = self._tail.read(_METRICS_BYTES)
        length = content.rfind(b"\n") + 1
        if length == 0:
            too_long = len(content) >= _METRICS_BYTES
            length = len(content) if final or too_long else 0
        if length == 0:
            return None
        return self._batch(self._tail.announce(length))

    def acknowledge(self, batch: Batch) -> None:
        """The API has the batch."""
        self._tail.acknowledge(batch.end)

    def _batch(self, chunk: Chunk) -> Batch:
        points, progress, rejected = parse_lines(chunk.content)
        # The digest keeps batches apart when an engine restarts an attempt on a fresh disk, where
        # the same offset holds other metrics.
        digest = hashlib.sha256(chunk.content).hexdigest()[:12]
        identity = f"{self._attempt}-{chunk.offset}-{digest}"
        return Batch(identity, chunk.end, points, progress, rejected)


class LogTail:
    """Cuts a log into chunks that end between characters."""

    def __init__(self, path: Path) -> None:
        self._tail = FileTail(path, path.with_suffix(".cursor"))

    @property
    def is_fresh(self) -> bool:
        """Whether nothing of it was handed out yet."""
        return self._tail.is_fresh

    def next_chunk(self, final: bool = False) -> Chunk | None:
        """The next chunk, the same one until it is acknowledged; None when there is none."""
        content = self._tail.read(_LOG_BYTES)
        length = len(content) if final else whole_characters(content)
        return self._tail.announce(length) if length else None

    def acknowledge(self, chunk: Chunk) -> None:
        """The API has the chunk."""
        self._tail.acknowledge(chunk.end)


def parse_lines(content: bytes) -> tuple[list[Point], float | None, list[str]]:
    """The points in ``content``, the last progress, and what was wrong with other lines."""
    points: list[Point] = []
    progress: float | None = None
    rejected: list[str] = []
    for line in content.splitlines():
        if not line.strip():
            continue
        try:
            parsed = parse_line(line)
        except MetricLineError as error:
            shown = line[:80].decode(errors="replace")
            rejected.append(f"a metrics line was left out because {error}: {shown}")
            continue
        if isinstance(parsed, Point):
            points.append(parsed)
        else:
            progress = parsed
    return points, progress, rejected


def whole_characters(content: bytes) -> int:
    """How many bytes of ``content`` are whole UTF-8 characters, not counting one cut at its end."""
    for back in range(1, min(4, len(content)) + 1):
        byte = content[-back]
        if byte & 0xC0 == 0x80:
            continue
        needed = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return len(content) - back if needed > back else len(content)
    return len(content)


def _read_cursor(path: Path) -> tuple[int, int]:
    try:
        body = json.loads(path.read_text())
    except FileNotFoundError:
        return 0, 0
    return int(body["done"]), int(body["announced"])
