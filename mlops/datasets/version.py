"""A dataset version before it is pushed: files with their checksums, manifest and Item."""

import hashlib
import math
import mimetypes
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops.datasets import DatasetError
from mlops.datasets.footprints import Footprint, hull
from mlops.datasets.manifest import MEDIA_TYPE, Manifest, ManifestFile, ManifestSample
from mlops.datasets.rasters import Band
from mlops.datasets.scan import OnStep, ScannedDataset, ScannedSample
from mlops.items.extension import CLASSIFICATION, FILE, MLOPS, STAC_VERSION, VERSION, published
from mlops.jobs import SPLITS

GEOTIFF = "image/tiff; application=geotiff"
MARKDOWN = "text/markdown"
_RASTER = published("raster", "2.0.0")
_CHUNK = 1 << 20
_THREADS = 8
# An Item stays small: a longer series is described by its manifest and its files alone.
_MOST_BANDS = 400


@dataclass(frozen=True)
class LocalFile:
    """A file of this machine with the checksum it had when it was read."""

    path: Path
    sha256: str
    size: int


def checksum(path: Path) -> LocalFile:
    """Read a file once for its SHA-256 and size."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return LocalFile(path, digest.hexdigest(), size)


def checksums(paths: list[Path], on_bytes: OnStep | None = None) -> dict[Path, LocalFile]:
    """Checksums of many files, in parallel; ``on_bytes`` is told ``(done, total)`` bytes."""
    total, done = sum(path.stat().st_size for path in paths), 0
    files = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for file in pool.map(checksum, paths):
            files[file.path] = file
            done += file.size
            if on_bytes:
                on_bytes(min(done, total), total)
    return files


def sample_paths(scanned: ScannedDataset) -> list[Path]:
    """Every file of every sample, once."""
    paths = {s.data for s in scanned.samples} | {s.labels for s in scanned.samples if s.labels}
    return sorted(paths)


def build_manifest(scanned: ScannedDataset, files: dict[Path, LocalFile]) -> Manifest:
    """The manifest of a scanned folder whose files have these checksums."""
    _check_leaks(scanned, files)
    return Manifest.of(
        (_manifest_sample(scanned, sample, files) for sample in scanned.samples),
        (entry.to_stac() for entry in scanned.classes.classes),
    )


def dataset_item(
    dataset: str,
    scanned: ScannedDataset,
    manifest: Manifest,
    *,
    title: str | None = None,
    description: str | None = None,
) -> dict[str, Any]:
    """The Item of a version without id, version and assets: those come when it is pushed."""
    footprint = _footprint(scanned)
    pixels = scanned.pixels
    total = sum({file.sha256: file.size for s in manifest.samples for file in s.files}.values())
    properties: dict[str, Any] = {
        "title": title or dataset,
        "datetime": None,
        "start_datetime": _stac_time(min(sample.start for sample in manifest.samples)),
        "end_datetime": _stac_time(max(sample.end for sample in manifest.samples)),
        "mlops:dataset": dataset,
        "mlops:samples": len(manifest.samples),
        "mlops:splits": _splits(manifest),
        "mlops:size": total,
        "mlops:manifest_digest": manifest.digest,
        "classification:classes": [
            {**entry, "count": pixels.get(entry["value"], 0)} for entry in manifest.classes
        ],
    }
    if description:
        properties["description"] = description
    if scanned.non_spatial:
        properties["mlops:non_spatial"] = True
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [MLOPS, VERSION, FILE, CLASSIFICATION],
        "geometry": footprint.geometry,
        "bbox": list(footprint.bbox),
        "properties": properties,
        "links": [],
        "assets": {},
    }


def manifest_asset(href: str, file: LocalFile, scanned: ScannedDataset) -> dict[str, Any]:
    """The asset of the manifest, with the bands that all samples have in common."""
    asset = _file_asset(href, file, "Manifest: a row a sample", MEDIA_TYPE)
    bands = scanned.common_bands
    if bands and len(bands) <= _MOST_BANDS:
        asset["bands"] = [_stac_band(band) for band in bands]
    return asset


def datacard_asset(href: str, file: LocalFile) -> dict[str, Any]:
    """The asset of the datacard."""
    return _file_asset(href, file, "Datacard", MARKDOWN)


def extensions_of(assets: dict[str, Any]) -> list[str]:
    """Further extensions that the assets use."""
    bands = [band for asset in assets.values() for band in asset.get("bands", [])]
    return [_RASTER] if any("raster:scale" in band for band in bands) else []


def _file_asset(href: str, file: LocalFile, title: str, media_type: str) -> dict[str, Any]:
    return {
        "href": href,
        "type": media_type,
        "title": title,
        "roles": ["metadata"],
        "file:size": file.size,
        "file:checksum": f"1220{file.sha256}",
    }


def _stac_band(band: Band) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": band.name, "data_type": band.data_type}
    if band.nodata is not None:
        entry["nodata"] = "nan" if math.isnan(band.nodata) else band.nodata
    if (band.scale, band.offset) != (1.0, 0.0):
        entry |= {"raster:scale": band.scale, "raster:offset": band.offset}
    return entry


def _footprint(scanned: ScannedDataset) -> Footprint:
    return hull([sample.footprint for sample in scanned.samples])


def _splits(manifest: Manifest) -> dict[str, dict[str, int]]:
    return {
        split: {
            "samples": len(samples),
            "bytes": sum(file.size for sample in samples for file in sample.files),
        }
        for split in SPLITS
        if (samples := manifest.of_split(split))
    }


def _manifest_sample(
    scanned: ScannedDataset, sample: ScannedSample, files: dict[Path, LocalFile]
) -> ManifestSample:
    return ManifestSample(
        id=sample.id,
        split=sample.split,
        geometry=sample.footprint.geometry,
        bbox=sample.footprint.bbox,
        start=sample.interval.start,
        end=sample.interval.end,
        classes=scanned.classes.names_of(set(sample.pixels)),
        data=_manifest_file(scanned, files[sample.data]),
        labels=_manifest_file(scanned, files[sample.labels]) if sample.labels else None,
    )


def _manifest_file(scanned: ScannedDataset, file: LocalFile) -> ManifestFile:
    name = file.path.relative_to(scanned.folder).as_posix()
    guessed = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return ManifestFile(
        file.sha256, file.size, GEOTIFF if guessed == "image/tiff" else guessed, name
    )


def _check_leaks(scanned: ScannedDataset, files: dict[Path, LocalFile]) -> None:
    """The same bytes in two splits would let a model be scored on what it was trained on."""
    first: dict[str, ScannedSample] = {}
    problems = []
    for sample in scanned.samples:
        other = first.setdefault(files[sample.data].sha256, sample)
        if other.split != sample.split:
            names = [path.relative_to(scanned.folder) for path in (other.data, sample.data)]
            problems.append(
                f"{names[0].as_posix()} ({other.split}) and {names[1].as_posix()} "
                f"({sample.split}) are the same file: a sample belongs to one split"
            )
    if problems:
        raise DatasetError(problems)


def _stac_time(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
