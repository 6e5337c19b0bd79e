"""Small real GeoTIFFs for the tests of datasets."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin

TIMES = ("2020-03-01T10:00:00Z", "2020-06-01T10:00:00Z")


def write_raster(path: Path, pixels: Any, *, bands: Any = None, **profile: Any) -> Path:
    """Write ``pixels`` (bands, rows, columns); at 10 m in UTM 33N unless said otherwise."""
    pixels = np.asarray(pixels)
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = {
        "crs": "EPSG:32633",
        "transform": from_origin(500_000, 5_100_000, 10, 10),
        "driver": "GTiff",
        "count": pixels.shape[0],
        "height": pixels.shape[1],
        "width": pixels.shape[2],
        "dtype": pixels.dtype,
        **profile,
    }
    tags = settings.pop("tags", {})
    with rasterio.open(path, "w", **settings) as raster:
        raster.write(pixels)
        raster.update_tags(**tags)
        if bands:
            raster.descriptions = bands
    return path


def write_pair(folder: Path, name: str, *, seed: int = 0, classes: int = 3) -> None:
    """A series ``{name}.tif`` with two dates and its ``{name}_labels.tif`` with 1..classes."""
    rng = np.random.default_rng(seed)
    series = rng.integers(0, 9000, size=(2, 6, 6)).astype(np.int16)
    labels = (np.arange(36).reshape(1, 6, 6) % classes + 1).astype(np.uint8)
    write_raster(folder / f"{name}.tif", series, bands=TIMES)
    write_raster(folder / f"{name}_labels.tif", labels)
