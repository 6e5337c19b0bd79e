"""An object store in a folder of this machine."""

import contextlib
import hashlib
import io
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mlops.storage import MissingObjectError, StorageError, StoredObject

_CHUNK = 1 << 20


class FolderStore:
    """Objects as files below one folder; keys are paths relative to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.url = self.folder.as_uri()

    def path(self, key: str) -> Path:
        """The file of ``key``; a key that would leave the folder is refused."""
        parts = key.split("/")
        if not key or any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise StorageError(f"key {key!r} is not valid")
        return self.folder.joinpath(*parts)

    def put_file(self, key: str, path: Path) -> StoredObject:
        with path.open("rb") as source:
            return self._write(key, source)

    def put_bytes(self, key: str, content: bytes) -> StoredObject:
        return self._write(key, io.BytesIO(content))

    def get_file(self, key: str, path: Path) -> StoredObject:
        digest, size = hashlib.sha256(), 0
        with self.open(key) as source, path.open("wb") as target:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                target.write(chunk)
        return StoredObject(key, size, digest.hexdigest())

    def get_bytes(self, key: str, limit: int) -> bytes:
        with self.open(key) as source:
            content = source.read(limit + 1)
        if len(content) > limit:
            raise StorageError(f"object {key} is larger than {limit} bytes")
        return content

    def copy(self, source: str, target: str) -> None:
        with self.open(source) as file:
            self._write(target, file)

    def size(self, key: str) -> int | None:
        path = self.path(key)
        return path.stat().st_size if path.is_file() else None

    def open(self, key: str) -> BinaryIO:
        try:
            return self.path(key).open("rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise MissingObjectError(f"there is no object {key} in {self.folder}") from error

    def delete(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    def keys(self, prefix: str) -> Iterator[str]:
        root = self.folder.joinpath(*[part for part in prefix.split("/")[:-1] if part])
        for path in sorted(root.rglob("*")):
            key = path.relative_to(self.folder).as_posix()
            if path.is_file() and key.startswith(prefix) and not path.name.startswith(".part-"):
                yield key

    def href(self, key: str) -> str | None:  # noqa: ARG002 - the API's /assets is the only URL
        return None

    def check(self) -> None:
        probe = f".probe-{secrets.token_hex(4)}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.put_bytes(probe, b"probe")
            self.delete(probe)
        except OSError as error:
            raise StorageError(
                f"the object store's folder {self.folder} cannot be written ({error.strerror}). "
                "Give this user the right to write there, or name another place with MLOPS_STORAGE."
            ) from error
        free = shutil.disk_usage(self.folder).free
        if free < 100 << 20:
            raise StorageError(
                f"the object store's folder {self.folder} has only {free >> 20} MB left: "
                "free some space, or name another place with MLOPS_STORAGE."
            )

    def _write(self, key: str, source: BinaryIO) -> StoredObject:
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.parent / f".part-{secrets.token_hex(8)}"
        digest, size = hashlib.sha256(), 0
        try:
            with part.open("wb") as target:
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
                    target.write(chunk)
                target.flush()
                os.fsync(target.fileno())
            part.replace(path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                part.unlink()
        return StoredObject(key, size, digest.hexdigest())
