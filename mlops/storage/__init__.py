"""The object store: where datasets, logs, checkpoints and models lie."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname


class StorageError(Exception):
    """The object store cannot do what was asked; the message says what to do."""


class MissingObjectError(StorageError):
    """There is no object under this key."""


@dataclass(frozen=True)
class StoredObject:
    """An object's size in bytes and its SHA-256 as lower-case hex digits."""

    key: str
    size: int
    sha256: str


class ObjectStore(Protocol):
    """A flat store of immutable objects under slash-separated keys."""

    url: str

    def put_file(self, key: str, path: Path) -> StoredObject:
        """Store a file; visible only when all of it is there. Replaces what lay there."""
        ...

    def put_bytes(self, key: str, content: bytes) -> StoredObject:
        """Store bytes; visible only when all of them are there."""
        ...

    def get_file(self, key: str, path: Path) -> StoredObject:
        """Copy an object to ``path`` and give its checksum, computed over what was read."""
        ...

    def get_bytes(self, key: str, limit: int) -> bytes:
        """Read an object of at most ``limit`` bytes; larger is a :class:`StorageError`."""
        ...

    def copy(self, source: str, target: str) -> None:
        """Copy an object inside the store; the same copy twice is harmless."""
        ...

    def size(self, key: str) -> int | None:
        """An object's size in bytes, or None when there is none."""
        ...

    def open(self, key: str) -> BinaryIO:
        """Open an object for reading."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; none there is no error."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """Every key that starts with ``prefix``."""
        ...

    def href(self, key: str) -> str | None:
        """The object's own URL for a STAC asset (``s3://...``); None when only the API has one."""
        ...

    def check(self) -> None:
        """Write, read and remove a probe; raise :class:`StorageError` with a clear sentence."""
        ...


def open_store(url: str) -> ObjectStore:
    """Open the store that ``url`` names: ``s3://bucket[/prefix]``, ``file:///folder`` or a path."""
    scheme = urlsplit(url).scheme
    if scheme == "s3":
        from mlops.storage.s3 import S3Store

        return S3Store(url)
    from mlops.storage.folder import FolderStore

    if scheme == "file":
        return FolderStore(Path(url2pathname(urlsplit(url).path)))
    if scheme in ("", "c", "d"):
        return FolderStore(Path(url))
    raise StorageError(f"object store {url!r} is not understood: use s3://bucket/prefix or a path")
