"""Reading samples that are pairs of rasters: a pixel's time series and its label.

A sample is two rasters on one grid: a **series** with one band a date (integer or float, with
GDAL's nodata, scale and offset) and, where it is known, the **labels** (one integer band).

Values. A series whose bands carry a GDAL scale or offset is read in physical units
(``raw * scale + offset``); one that carries neither keeps its raw numbers, whatever they mean.
Nothing is guessed: a model normalises by the statistics of its training samples, so both give the
same scores, but all samples of a dataset must agree, and :func:`check_alike` says which does not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import RasterioError

from mlops.datasets import DatasetError

IGNORED = -1
"""The label of a pixel that has none."""

Series = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class PixelDataError(DatasetError):
    """A sample that cannot be used; the message names the sample and says why."""

    def __init__(self, problem: str) -> None:
        super().__init__([problem])


@dataclass(frozen=True)
class PixelSample:
    """The pixels of one sample, row by row as they lie in the rasters.

    ``series`` is ``[pixels, time, bands]`` with NaN where an observation is missing; ``labels`` is
    ``[pixels]`` with the values of the raster and :data:`IGNORED`, or None where the sample has no
    labels. ``times`` are UTC, one a date, empty where the series does not say them. ``scaled``
    tells whether ``series`` is in physical units. ``shape`` is ``(rows, columns)``.
    """

    name: str
    series: Series
    labels: Labels | None
    times: tuple[datetime, ...]
    scaled: bool
    shape: tuple[int, int]


def ignored_values(classes: Sequence[dict[str, Any]]) -> frozenset[int]:
    """The label values that mean "no label".

    ``classes`` is ``classification:classes`` of the dataset: its classes flagged ``nodata``, and 0
    unless 0 is one of its real classes.
    """
    flagged = {int(entry["value"]) for entry in classes if entry.get("nodata")}
    real = {int(entry["value"]) for entry in classes} - flagged
    return frozenset(flagged | ({0} - real))


def read_sample(
    data: Path,
    labels: Path | None,
    *,
    name: str,
    ignored: Iterable[int] = (0,),
) -> PixelSample:
    """Read one sample.

    ``labels`` is None where only the series is wanted. Label values in ``ignored``, and the nodata
    value of the label raster, become :data:`IGNORED`. Raises :class:`PixelDataError` when a file is
    no raster, when labels are not one integer band, or when the two do not lie on one grid.
    """
    try:
        with rasterio.open(data) as raster:
            series, scaled = _read_series(raster)
            times = _times(raster.descriptions)
            grid = (raster.height, raster.width, raster.transform)
        values = None
        if labels is not None:
            with rasterio.open(labels) as raster:
                _check_labels(raster, grid, name)
                values = _read_labels(raster, ignored)
    except RasterioError as error:
        raise PixelDataError(f"sample {name} cannot be read as a raster: {error}") from error
    return PixelSample(name, series, values, times, scaled, (grid[0], grid[1]))


def check_alike(samples: Sequence[PixelSample]) -> None:
    """Raise :class:`PixelDataError`, naming the sample, when one does not go with the first.

    All samples must have the same number of dates and bands, and be all scaled or all raw.
    """
    for sample in samples[1:]:
        first = samples[0]
        (_, dates, bands), (_, other_dates, other_bands) = first.series.shape, sample.series.shape
        if (dates, bands) != (other_dates, other_bands):
            raise PixelDataError(
                f"sample {sample.name} has {other_dates} dates, but sample {first.name} has "
                f"{dates}: all samples of a dataset need the same dates. Leave the sample out, or "
                "resample its series to the dates of the others."
            )
        if first.scaled != sample.scaled:
            raw, tagged = (sample, first) if first.scaled else (first, sample)
            raise PixelDataError(
                f"sample {raw.name} has no scale, but sample {tagged.name} has one: their values "
                "cannot be compared. Set GDAL's scale and offset on all rasters or on none."
            )


def _read_series(raster: Any) -> tuple[Series, bool]:
    stack = raster.read(masked=True)
    values = np.ma.filled(stack.astype(np.float32), np.nan)
    scales = np.asarray(raster.scales, dtype=np.float32)[:, None, None]
    offsets = np.asarray(raster.offsets, dtype=np.float32)[:, None, None]
    scaled = bool(np.any(scales != 1) or np.any(offsets != 0))
    if scaled:
        values = values * scales + offsets
    values[~np.isfinite(values)] = np.nan
    series = values.reshape(raster.count, -1).T[:, :, None]
    return np.ascontiguousarray(series, dtype=np.float32), scaled


def _read_labels(raster: Any, ignored: Iterable[int]) -> Labels:
    band = raster.read(1, masked=True)
    values = np.asarray(band.data, dtype=np.int64)
    values[np.ma.getmaskarray(band) | np.isin(values, list(ignored))] = IGNORED
    return values.ravel()


def _check_labels(raster: Any, grid: tuple[int, int, Any], name: str) -> None:
    if raster.count != 1 or not np.issubdtype(np.dtype(raster.dtypes[0]), np.integer):
        raise PixelDataError(
            f"the labels of sample {name} must be one band of integers, but are {raster.count} "
            f"band(s) of {raster.dtypes[0]}"
        )
    height, width, transform = grid
    if (raster.height, raster.width) != (height, width):
        raise PixelDataError(
            f"sample {name}: the series has {height} x {width} pixels, the labels "
            f"{raster.height} x {raster.width}; both must lie on one grid"
        )
    # Writers round differently: a hundredth of a pixel is the same place.
    tolerance = abs(transform.a) / 100 or 1e-9
    if not raster.transform.almost_equals(transform, precision=tolerance):
        raise PixelDataError(
            f"sample {name}: series and labels have other geotransforms; both must lie on one grid"
        )


def _times(descriptions: Iterable[str | None]) -> tuple[datetime, ...]:
    """The dates of the bands; none at all unless every band's description is one."""
    times = []
    for text in descriptions:
        try:
            time = datetime.fromisoformat(text or "")
        except ValueError:
            return ()
        times.append(time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC))
    return tuple(times)
