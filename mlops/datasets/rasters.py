"""What a raster file says of itself: grid, footprint, time, bands, and counts of its labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops.datasets.footprints import Footprint, raster_footprint
from mlops.datasets.times import Interval, time_of_tag, times_of_bands


class RasterError(Exception):
    """A file that is no readable raster, or not the kind that is needed."""


@dataclass(frozen=True)
class Grid:
    """Where a raster's pixels lie. ``crs`` is WKT, None where the file names none."""

    crs: str | None
    transform: tuple[float, ...]
    width: int
    height: int


@dataclass(frozen=True)
class Band:
    """A band: its description, data type, and how stored numbers become physical ones."""

    name: str
    data_type: str
    nodata: float | None
    scale: float
    offset: float


@dataclass(frozen=True)
class Raster:
    """What is known of a raster without its pixels. ``footprint`` is None where it has no CRS."""

    grid: Grid
    footprint: Footprint | None
    interval: Interval | None
    bands: tuple[Band, ...]


def read_raster(path: Path) -> Raster:
    """Describe a raster; :class:`RasterError` when it cannot be read."""
    source = _open(path)
    with source:
        grid = _grid(source)
        try:
            footprint = (
                raster_footprint(source.crs, source.transform, source.width, source.height)
                if source.crs
                else None
            )
        except ValueError as error:
            raise RasterError(str(error)) from error
        return Raster(grid, footprint, _interval(source), _bands(source))


def count_labels(path: Path) -> tuple[Grid, dict[int, int], int | None]:
    """A label raster's grid, its pixels by value, and its nodata value."""
    import numpy as np

    source = _open(path)
    with source:
        if source.count != 1 or not np.issubdtype(np.dtype(source.dtypes[0]), np.integer):
            kind = f"{source.count} bands of {source.dtypes[0]}"
            raise RasterError(f"labels must be one band of integers, not {kind}")
        values, counts = np.unique(_read(source, 1), return_counts=True)
        nodata = None if source.nodata is None else int(source.nodata)
        found = {int(v): int(n) for v, n in zip(values, counts, strict=True)}
        return _grid(source), found, nodata


def check_pixels(path: Path) -> None:
    """Read every pixel once, so that a file cut short is found before it is pushed."""
    source = _open(path)
    with source:
        for _, window in source.block_windows(1):
            _read(source, None, window)


def _open(path: Path) -> Any:
    import rasterio
    from rasterio.errors import RasterioIOError

    try:
        return rasterio.open(path)
    except RasterioIOError as error:
        raise RasterError(f"cannot be read as a raster ({error})") from error


def _read(source: Any, band: int | None, window: Any = None) -> Any:
    from rasterio.errors import RasterioIOError

    try:
        return source.read(band, window=window)
    except RasterioIOError as error:
        raise RasterError(f"its pixels cannot be read ({error})") from error


def _grid(source: Any) -> Grid:
    crs = source.crs.to_wkt() if source.crs else None
    # Rounded: two writers of one grid may differ in the last bits of a number.
    transform = tuple(round(number, 9) for number in source.transform[:6])
    return Grid(crs, transform, source.width, source.height)


def _interval(source: Any) -> Interval | None:
    times = times_of_bands(source.descriptions)
    if times:
        return Interval(min(times), max(times))
    tag = source.tags().get("TIFFTAG_DATETIME")
    time = time_of_tag(tag) if tag else None
    return Interval(time, time) if time else None


def _bands(source: Any) -> tuple[Band, ...]:
    rows = zip(
        source.descriptions,
        source.dtypes,
        source.nodatavals,
        source.scales,
        source.offsets,
        strict=True,
    )
    return tuple(
        Band(description or f"b{index}", data_type, nodata, scale, offset)
        for index, (description, data_type, nodata, scale, offset) in enumerate(rows, start=1)
    )
