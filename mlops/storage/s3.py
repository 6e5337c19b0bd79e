"""An object store in an S3 bucket, or anything that speaks S3."""

import hashlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from mlops.storage import MissingObjectError, StorageError, StoredObject

_CHUNK = 1 << 20
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
# 409 is S3's answer to one of two conditional writes that meet: the other one goes first.
_NOT_FIRST = frozenset({"412", "PreconditionFailed", "409", "ConditionalRequestConflict"})


class S3Store:
    """Objects below ``s3://bucket/prefix``.

    ``client`` is a boto3 S3 client; one is made from the environment when none is given
    (``AWS_ENDPOINT_URL_S3`` names another S3-compatible service).
    """

    def __init__(self, url: str, client: Any = None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise StorageError(f"object store {url!r} is not understood: use s3://bucket/prefix")
        self.bucket = parts.netloc
        self.prefix = parts.path.strip("/")
        self.url = url.rstrip("/")
        if client is None:
            import boto3

            client = boto3.client("s3")
        self.client = client

    def name(self, key: str) -> str:
        """The key in the bucket, below the store's prefix."""
        return f"{self.prefix}/{key}" if self.prefix else key

    def put_file(self, key: str, path: Path) -> StoredObject:
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as source:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
        self.client.upload_file(str(path), self.bucket, self.name(key))
        return StoredObject(key, size, digest.hexdigest())

    def put_bytes(self, key: str, content: bytes) -> StoredObject:
        self.client.put_object(Bucket=self.bucket, Key=self.name(key), Body=content)
        return StoredObject(key, len(content), hashlib.sha256(content).hexdigest())

    def put_if_absent(self, key: str, content: bytes) -> str | None:
        """Store bytes unless there is an object under the key; their tag, or None if there is.

        Of several that do this at once one succeeds.
        """
        return self._put_if(key, content, IfNoneMatch="*")

    def put_if_same(self, key: str, content: bytes, etag: str) -> str | None:
        """Replace the object that has ``etag``; the new tag, or None if it is another by now."""
        return self._put_if(key, content, IfMatch=etag)

    def get_with_etag(self, key: str, limit: int) -> tuple[bytes, str]:
        """Read an object of at most ``limit`` bytes, and the tag of what was read."""
        answer = self._get(key)
        content = answer["Body"].read(limit + 1)
        if len(content) > limit:
            raise StorageError(f"object {key} is larger than {limit} bytes")
        return content, str(answer["ETag"])

    def get_file(self, key: str, path: Path) -> StoredObject:
        digest, size = hashlib.sha256(), 0
        source = self.open(key)
        with path.open("wb") as target:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                target.write(chunk)
        return StoredObject(key, size, digest.hexdigest())

    def get_bytes(self, key: str, limit: int) -> bytes:
        content = self.open(key).read(limit + 1)
        if len(content) > limit:
            raise StorageError(f"object {key} is larger than {limit} bytes")
        return content

    def copy(self, source: str, target: str) -> None:
        # The managed copy does multipart above 5 GB, which copy_object refuses.
        if self.size(source) is None:
            raise MissingObjectError(f"there is no object {key_url(self, source)}")
        origin = {"Bucket": self.bucket, "Key": self.name(source)}
        self.client.copy(origin, self.bucket, self.name(target))

    def size(self, key: str) -> int | None:
        try:
            head = self.client.head_object(Bucket=self.bucket, Key=self.name(key))
        except self.client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in _MISSING:
                return None
            raise
        return int(head["ContentLength"])

    def open(self, key: str) -> BinaryIO:
        return cast(BinaryIO, self._get(key)["Body"])

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=self.name(key))

    def keys(self, prefix: str) -> Iterator[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.name(prefix)
        )
        skip = len(self.prefix) + 1 if self.prefix else 0
        for page in pages:
            for entry in page.get("Contents", []):
                yield entry["Key"][skip:]

    def href(self, key: str) -> str | None:
        return key_url(self, key)

    def presigned_get(self, key: str, expires: int = 900) -> str:
        """A URL that reads the object for ``expires`` seconds."""
        return self._presign("get_object", key, expires)

    def presigned_put(self, key: str, expires: int = 3600) -> str:
        """A URL that writes the object for ``expires`` seconds."""
        return self._presign("put_object", key, expires)

    def check(self) -> None:
        probe = f".probe-{secrets.token_hex(4)}"
        try:
            self.put_bytes(probe, b"probe")
            self.delete(probe)
        except Exception as error:
            raise StorageError(
                f"the object store {self.url} cannot be written ({error}). Check that the bucket "
                "exists and that these credentials may put and delete objects in it."
            ) from error

    def _get(self, key: str) -> Any:
        try:
            return self.client.get_object(Bucket=self.bucket, Key=self.name(key))
        except self.client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in _MISSING:
                raise MissingObjectError(f"there is no object {key_url(self, key)}") from error
            raise

    def _put_if(self, key: str, content: bytes, **condition: str) -> str | None:
        try:
            answer = self.client.put_object(
                Bucket=self.bucket, Key=self.name(key), Body=content, **condition
            )
        except self.client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] in _NOT_FIRST | _MISSING:
                return None
            raise
        return str(answer["ETag"])

    def _presign(self, operation: str, key: str, expires: int) -> str:
        return str(
            self.client.generate_presigned_url(
                operation,
                Params={"Bucket": self.bucket, "Key": self.name(key)},
                ExpiresIn=expires,
            )
        )


def key_url(store: S3Store, key: str) -> str:
    """The ``s3://`` URL of an object."""
    return f"s3://{store.bucket}/{store.name(key)}"
