"""Tiny georeferenced chips, and dataset versions of them in an object store."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from rasterio.transform import from_origin

from mlops.datasets.manifest import Manifest, ManifestFile, ManifestSample
from mlops.jobs import JobDataset, JobDocument, Split
from mlops.storage import ObjectStore, keys
from mlops.storage.folder import FolderStore

CLASSES: list[dict[str, Any]] = [
    {"value": 0, "name": "no data", "nodata": True},
    {"value": 2, "name": "forest"},
    {"value": 3, "name": "Bare soil"},
]
NODATA = -10000
DATES = 12
SQUARE = {
    "type": "Polygon",
    "coordinates": [[[15.0, 46.0], [15.1, 46.0], [15.1, 46.1], [15.0, 46.1], [15.0, 46.0]]],
}


def write_raster(
    path: Path,
    values: npt.NDArray[Any],
    *,
    nodata: float | None = None,
    scale: float | None = None,
    descriptions: Sequence[str] = (),
    west: float = 500000.0,
) -> Path:
    """A GeoTIFF of ``values`` ``[bands, rows, columns]`` with 10 m pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype=values.dtype,
        count=count,
        height=height,
        width=width,
        crs="EPSG:32633",
        transform=from_origin(west, 5080000.0, 10, 10),
        nodata=nodata,
    ) as raster:
        raster.write(values)
        if scale is not None:
            raster.scales = [scale] * count
        for band, text in enumerate(descriptions, start=1):
            raster.set_band_description(band, text)
    return path


@dataclass(frozen=True)
class Chip:
    """A sample on disk."""

    id: str
    split: Split
    data: Path
    labels: Path | None


def write_chip(
    folder: Path, name: str, split: Split, *, seed: int, size: int = 8, dates: int = DATES
) -> Chip:
    """Two covers that a network can tell apart: green all year, and green in summer only.

    A third of the observations is missing, and the first pixel has none at all.
    """
    random = np.random.default_rng(seed)
    labels = np.where(random.random((size, size)) < 0.5, 2, 3).astype(np.uint8)
    labels[0, 1] = 0
    season = np.sin(np.linspace(0, 2 * np.pi, dates))
    green = np.where(labels[None] == 2, 8000, 3000 + 2500 * season[:, None, None])
    series = (green + random.normal(0, 300, green.shape)).astype(np.int16)
    series[random.random(series.shape) < 0.33] = NODATA
    series[:, 0, 0] = NODATA
    start = datetime(2020, 1, 5)
    times = [(start + timedelta(days=30 * date)).isoformat() for date in range(dates)]
    return Chip(
        name,
        split,
        write_raster(
            folder / f"{name}_ndvi.tif", series, nodata=NODATA, scale=1e-4, descriptions=times
        ),
        write_raster(folder / f"{name}_lulc.tif", labels[None], nodata=0),
    )


def store_dataset(
    store: ObjectStore,
    chips: Sequence[Chip],
    *,
    item: str = "fields-v1",
    split: Split | None = None,
    classes: list[dict[str, Any]] = CLASSES,
) -> JobDataset:
    """Put a dataset version into the store, as a push does."""

    def put(path: Path) -> ManifestFile:
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        store.put_bytes(keys.blob("alps", sha256), content)
        return ManifestFile(sha256, len(content), "image/tiff; application=geotiff", path.name)

    samples = [
        ManifestSample(
            id=chip.id,
            split=chip.split,
            geometry=SQUARE,
            bbox=(15.0, 46.0, 15.1, 46.1),
            start=datetime(2020, 1, 5, tzinfo=UTC),
            end=datetime(2020, 12, 5, tzinfo=UTC),
            classes=(),
            data=put(chip.data),
            labels=None if chip.labels is None else put(chip.labels),
        )
        for chip in chips
    ]
    path = chips[0].data.with_name("manifest.parquet")
    Manifest.of(samples, classes).write(path)
    content = path.read_bytes()
    path.unlink()
    sha256 = hashlib.sha256(content).hexdigest()
    store.put_bytes(keys.blob("alps", sha256), content)
    return JobDataset(
        collection="alps-training-data",
        item=item,
        split=split,
        manifest_key=keys.blob("alps", sha256),
        manifest_sha256=sha256,
        classes=classes,
    )


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """An empty object store."""
    store = FolderStore(tmp_path / "store")
    store.folder.mkdir()
    return store


@pytest.fixture
def chips(tmp_path: Path) -> list[Chip]:
    """Two training chips, one for validation, one for testing."""
    splits: tuple[Split, ...] = ("train", "train", "validation", "test")
    return [
        write_chip(tmp_path / "chips", f"chip-{seed}", split, seed=seed)
        for seed, split in enumerate(splits)
    ]


@pytest.fixture
def document(tmp_path: Path) -> Callable[..., JobDocument]:
    """Makes job documents."""

    def make(datasets: list[JobDataset], **changes: Any) -> JobDocument:
        fields: dict[str, Any] = {
            "name": "first-1-abc",
            "workspace": "alps",
            "collection": "alps-training-runs",
            "item": "first",
            "attempt": 1,
            "api_url": "http://127.0.0.1:9",
            "storage_url": (tmp_path / "store").as_uri(),
            "output_prefix": keys.run_prefix("alps", "first", 1),
            "model": "landcover",
            "task": "classification",
            "framework": "pytorch",
            "recipe": "pixel-timeseries",
            "hyperparameters": {"epochs": 2, "filters": 8, "dense_units": 16},
            "objective_metric": "val_balanced_accuracy",
            "objective_goal": "maximize",
            "datasets": datasets,
            "max_runtime": 600,
        }
        return JobDocument(**{**fields, **changes})

    return make
