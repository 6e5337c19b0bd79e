"""The manifest of a dataset version: stac-geoparquet, one row a sample.

Every row is a STAC Item in columns (``id``, ``geometry``, ``bbox``, times, ``assets``) with
``split`` and ``labels``. Hrefs are relative to the manifest, which lies among the files it names:
``../{sha256[:2]}/{sha256}``. The dataset's classes are in the file's metadata, so a manifest says
all there is to know about the samples.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from mlops.datasets import DatasetError
from mlops.datasets.wkb import Geometry, GeometryError, from_wkb, to_wkb
from mlops.items.extension import FILE, STAC_VERSION
from mlops.jobs import SPLITS, Split

MEDIA_TYPE = "application/vnd.apache.parquet"
_CLASSES_KEY = b"classification:classes"
_HREF = re.compile(r"\.\./([0-9a-f]{2})/(\1[0-9a-f]{62})")
_SHA256_MULTIHASH = "1220"

BBox = tuple[float, float, float, float]
"""West, south, east, north in degrees; west > east where it crosses the antimeridian."""


@dataclass(frozen=True)
class ManifestFile:
    """A file of a sample: SHA-256 as hex digits, size in bytes, media type, original name."""

    sha256: str
    size: int
    media_type: str
    title: str

    @property
    def href(self) -> str:
        """Where the file lies, relative to the manifest."""
        return f"../{self.sha256[:2]}/{self.sha256}"


@dataclass(frozen=True)
class ManifestSample:
    """A sample: footprint (GeoJSON, WGS 84), time interval (UTC), split, classes, files."""

    id: str
    split: Split
    geometry: Geometry = field(repr=False)
    bbox: BBox
    start: datetime
    end: datetime
    classes: tuple[str, ...]
    """Names of the classes present, sorted."""
    data: ManifestFile
    labels: ManifestFile | None

    @property
    def files(self) -> tuple[ManifestFile, ...]:
        """The sample's files."""
        return (self.data,) if self.labels is None else (self.data, self.labels)


@dataclass(frozen=True)
class Manifest:
    """All samples of a version, sorted by id, and its classes (``classification:classes``)."""

    samples: tuple[ManifestSample, ...]
    classes: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, samples: Iterable[ManifestSample], classes: Iterable[dict[str, Any]]) -> "Manifest":
        """Put samples and classes in their order: by id, by value."""
        return cls(
            tuple(sorted(samples, key=lambda sample: sample.id)),
            tuple(sorted(classes, key=lambda entry: entry["value"])),
        )

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON of classes and sorted rows.

        Not over the Parquet bytes: those depend on the version of the writer.
        """
        document = {"classes": self.classes, "samples": [_canonical(s) for s in self.samples]}
        text = json.dumps(
            document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return hashlib.sha256(text.encode()).hexdigest()

    def of_split(self, split: Split) -> tuple[ManifestSample, ...]:
        """The samples of one split."""
        return tuple(sample for sample in self.samples if sample.split == split)

    def write(self, path: Path) -> None:
        """Write the manifest as stac-geoparquet."""
        import pyarrow.parquet

        table = _table(self.samples).replace_schema_metadata(
            {b"geo": _geo_metadata(self.samples), _CLASSES_KEY: json.dumps(self.classes)}
        )
        pyarrow.parquet.write_table(table, path, compression="zstd")


def read_manifest(source: Path | BinaryIO) -> Manifest:
    """Read a manifest; :class:`DatasetError` when it is not one."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(source)
        classes = json.loads((table.schema.metadata or {}).get(_CLASSES_KEY, b"[]"))
        return Manifest.of([_sample(row) for row in table.to_pylist()], classes)
    except (pyarrow.ArrowException, GeometryError, KeyError, TypeError, ValueError) as error:
        reason = f"has no {error}" if isinstance(error, KeyError) else f"cannot be read: {error}"
        raise DatasetError([f"the manifest {reason}"]) from error


def _canonical(sample: ManifestSample) -> dict[str, Any]:
    def file(entry: ManifestFile | None) -> dict[str, Any] | None:
        if entry is None:
            return None
        return {
            "sha256": entry.sha256,
            "size": entry.size,
            "type": entry.media_type,
            "title": entry.title,
        }

    return {
        "id": sample.id,
        "split": sample.split,
        "geometry": sample.geometry,
        "bbox": sample.bbox,
        "start": _timestamp(sample.start),
        "end": _timestamp(sample.end),
        "classes": sample.classes,
        "data": file(sample.data),
        "labels": file(sample.labels),
    }


def _timestamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def _asset_row(file: ManifestFile | None, role: str) -> dict[str, Any] | None:
    if file is None:
        return None
    return {
        "href": file.href,
        "type": file.media_type,
        "roles": [role],
        "title": file.title,
        "file:size": file.size,
        "file:checksum": f"{_SHA256_MULTIHASH}{file.sha256}",
    }


def _row(sample: ManifestSample) -> dict[str, Any]:
    west, south, east, north = sample.bbox
    return {
        "stac_version": STAC_VERSION,
        "stac_extensions": [FILE],
        "id": sample.id,
        "geometry": to_wkb(sample.geometry),
        "bbox": {"xmin": west, "ymin": south, "xmax": east, "ymax": north},
        # STAC wants a null datetime where there is an interval, and no interval where there is not.
        "datetime": sample.start if sample.start == sample.end else None,
        "start_datetime": sample.start,
        "end_datetime": sample.end,
        "split": sample.split,
        "labels": list(sample.classes),
        "links": [],
        "assets": {
            "data": _asset_row(sample.data, "data"),
            "labels": _asset_row(sample.labels, "labels"),
        },
    }


def _table(samples: Sequence[ManifestSample]) -> Any:
    import pyarrow as pa

    strings = pa.list_(pa.string())
    time = pa.timestamp("us", tz="UTC")
    link = pa.struct({"href": pa.string(), "rel": pa.string(), "type": pa.string()})
    asset = pa.struct(
        {
            "href": pa.string(),
            "type": pa.string(),
            "roles": strings,
            "title": pa.string(),
            "file:size": pa.int64(),
            "file:checksum": pa.string(),
        }
    )
    schema = pa.schema(
        {
            "stac_version": pa.string(),
            "stac_extensions": strings,
            "id": pa.string(),
            "geometry": pa.binary(),
            "bbox": pa.struct({name: pa.float64() for name in ("xmin", "ymin", "xmax", "ymax")}),
            "datetime": time,
            "start_datetime": time,
            "end_datetime": time,
            "split": pa.string(),
            "labels": strings,
            "links": pa.list_(link),
            "assets": pa.struct({"data": asset, "labels": asset}),
        }
    )
    return pa.Table.from_pylist([_row(sample) for sample in samples], schema=schema)


def _geo_metadata(samples: Sequence[ManifestSample]) -> bytes:
    """The ``geo`` entry of GeoParquet 1.1; the default CRS is OGC:CRS84."""
    corners = {name: ["bbox", name] for name in ("xmin", "ymin", "xmax", "ymax")}
    column = {
        "encoding": "WKB",
        "geometry_types": sorted({sample.geometry["type"] for sample in samples}),
        "covering": {"bbox": corners},
    }
    return json.dumps(
        {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    ).encode()


def _sample(row: dict[str, Any]) -> ManifestSample:
    if row["split"] not in SPLITS:
        raise ValueError(f"sample {row['id']!r} has the unknown split {row['split']!r}")
    bbox = row["bbox"]
    labels = row["assets"]["labels"]
    return ManifestSample(
        id=row["id"],
        split=row["split"],
        geometry=from_wkb(row["geometry"]),
        bbox=(bbox["xmin"], bbox["ymin"], bbox["xmax"], bbox["ymax"]),
        start=row["start_datetime"] or row["datetime"],
        end=row["end_datetime"] or row["datetime"],
        classes=tuple(row["labels"]),
        data=_file(row["assets"]["data"]),
        labels=None if labels is None else _file(labels),
    )


def _file(asset: dict[str, Any]) -> ManifestFile:
    found = _HREF.fullmatch(asset["href"])
    # A job stages what a manifest names: an href must not lead out of the dataset's files.
    if not found or asset["file:checksum"] != f"{_SHA256_MULTIHASH}{found[2]}":
        raise ValueError(f"href {asset['href']!r} does not name a file by its checksum")
    return ManifestFile(found[2], asset["file:size"], asset["type"], asset["title"])
