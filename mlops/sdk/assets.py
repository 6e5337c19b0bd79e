"""Downloading an asset of an Item, checked against its size and checksum."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlops.api import Api

_SHA256_MULTIHASH = "1220"
_CHUNK = 1 << 20


class AssetError(Exception):
    """An asset cannot be had, or is not what its Item says."""


@dataclass(frozen=True)
class Downloaded:
    """A file that is what its Item says: SHA-256 as hex digits, size in bytes."""

    path: Path
    href: str
    size: int
    sha256: str


def download_asset(
    api: Api,
    asset: dict[str, Any],
    path: Path,
    on_received: Callable[[int], None] | None = None,
) -> Downloaded:
    """Save an asset to ``path``.

    Nothing is left there unless size and ``file:checksum`` agree; :class:`AssetError` otherwise.
    ``on_received`` is told of every chunk's bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unchecked = path.with_name(f".unchecked-{path.name}")
    try:
        href = _fetch(api, asset, unchecked, on_received)
        size, sha256 = _measure(unchecked)
        _compare(asset, href, size, sha256)
        unchecked.replace(path)
    finally:
        unchecked.unlink(missing_ok=True)
    return Downloaded(path, href, size, sha256)


def _fetch(
    api: Api, asset: dict[str, Any], path: Path, on_received: Callable[[int], None] | None
) -> str:
    hrefs = [asset["href"], *(other["href"] for other in asset.get("alternate", {}).values())]
    for href in hrefs:
        if urlsplit(href).scheme in ("http", "https"):
            api.download(href, path, on_received)
            return str(href)
    for href in hrefs:
        if urlsplit(href).scheme == "s3":
            from mlops.storage.s3 import S3Store

            parts = urlsplit(href)
            S3Store(f"s3://{parts.netloc}").get_file(parts.path.lstrip("/"), path)
            return str(href)
    raise AssetError(f"{asset['href']} cannot be downloaded: it is neither http(s) nor s3")


def _measure(path: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def _compare(asset: dict[str, Any], href: str, size: int, sha256: str) -> None:
    if "file:size" in asset and asset["file:size"] != size:
        raise AssetError(f"{href} has {size} bytes, its Item says {asset['file:size']}")
    stated = asset.get("file:checksum")
    if stated is None:
        raise AssetError(f"{href} has no file:checksum in its Item, so it cannot be checked")
    if stated != f"{_SHA256_MULTIHASH}{sha256}":
        raise AssetError(
            f"{href} is not what its Item says: its SHA-256 is {sha256}, file:checksum is {stated}"
        )
