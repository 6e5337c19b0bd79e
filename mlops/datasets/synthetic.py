"""A synthetic dataset: NDVI series of land cover as Sentinel-2 might see them, made by code.

Not observations. Each chip is a mosaic of patches (Voronoi cells); a patch has a land cover with
its own calendar, a pixel its own noise. Growing seasons are double logistic curves (Beck et al.
2006, "Improved monitoring of vegetation dynamics at very high latitudes", Remote Sensing of
Environment 100). Clouds hide whole areas of a date (nodata), haze lowers what they do not hide,
and pixels at the edge of a patch are mixed, so that a good classifier is not a perfect one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops.datasets.classes import DatasetClass, write_classes
from mlops.jobs import Split

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

NODATA = -32768
SCALE = 0.0001
_EPSG = 32633
_PIXEL = 10.0
_WEST, _NORTH = 460_000.0, 5_090_000.0
# Chips lie apart, so that none shares a patch of ground with another split.
_SPACING = 1_500.0
_COLUMNS = 8
_START = datetime(2021, 1, 4, 10, 0, 31, tzinfo=UTC)
_YEAR = 365.0

README = """\
# Synthetic land cover

Synthetic data, made by code (`mlops data sample`): no satellite has seen any of it, and no \
conclusion about the Earth can be drawn from it. It is for demonstrations and tests.

Each chip is a pair of GeoTIFFs: NDVI x 10,000 as int16, one band a date (its description is the \
time, nodata where a cloud hides the ground), and `_labels`, one band of classes (`classes.json`). \
Chips are split, whole, into train, validation and test.

Seasons are double logistic curves with random calendars for each patch; clouds, haze, noise and \
mixed pixels are random. Made with seed {seed}: the same seed makes the same files.
"""


@dataclass(frozen=True)
class SyntheticSpec:
    """How large the dataset is. ``size`` is a chip's width and height in pixels of 10 m."""

    train: int = 32
    validation: int = 8
    test: int = 8
    size: int = 18
    dates: int = 30
    seed: int = 20232

    @property
    def chips(self) -> int:
        """Chips in all splits."""
        return self.train + self.validation + self.test


@dataclass(frozen=True)
class _Cover:
    """A land cover: its class, how often a patch has it, and the NDVI of such a patch."""

    entry: DatasetClass
    share: float
    curve: Callable[[Floats, np.random.Generator], Floats]


def write_synthetic(
    folder: Path,
    spec: SyntheticSpec | None = None,
    on_chip: Callable[[int, int], None] | None = None,
) -> int:
    """Write the dataset into ``folder``, ready to be pushed; returns the number of chips.

    Raises FileExistsError when the folder holds anything already.
    """
    spec = spec or SyntheticSpec()
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: name a new folder for the sample dataset")
    folder.mkdir(parents=True, exist_ok=True)
    write_classes(folder, [cover.entry for cover in _COVERS])
    (folder / "README.md").write_text(README.format(seed=spec.seed), encoding="utf-8")
    times = _times(spec)
    for index in range(spec.chips):
        rng = np.random.default_rng([spec.seed, index])
        series, labels = _chip(spec, times, rng)
        _write_chip(folder / _split_of(spec, index), index, series, labels, times)
        if on_chip:
            on_chip(index + 1, spec.chips)
    return spec.chips


def _split_of(spec: SyntheticSpec, index: int) -> Split:
    # Spread over the ground: chips in the order of a shuffled list, not in rows.
    order = np.random.default_rng([spec.seed, spec.chips]).permutation(spec.chips)
    rank = int(order[index])
    if rank < spec.train:
        return "train"
    return "validation" if rank < spec.train + spec.validation else "test"


def _times(spec: SyntheticSpec) -> list[datetime]:
    """Dates over one year on Sentinel-2's five-day rhythm, with gaps."""
    rng = np.random.default_rng([spec.seed, spec.chips + 1])
    passes = rng.choice(73, size=min(spec.dates, 73), replace=False)
    return [_START + timedelta(days=5 * int(number)) for number in sorted(passes)]


# Curves of NDVI over the day of the year


def _season(
    days: Floats, low: float, high: float, green: float, brown: float, pace: float
) -> Floats:
    """A double logistic season: greening around day ``green``, browning around ``brown``."""
    rise = 1.0 / (1.0 + np.exp(-(days - green) / pace))
    fall = 1.0 / (1.0 + np.exp((days - brown) / pace))
    return low + (high - low) * (rise + fall - 1.0)


def _forest(days: Floats, rng: np.random.Generator) -> Floats:
    evergreen = rng.uniform(0.0, 0.7)
    winter = 0.30 + 0.35 * evergreen
    return _season(
        days, winter, rng.uniform(0.74, 0.88), rng.normal(112, 9), rng.normal(292, 10), 8
    )


def _shrubland(days: Floats, rng: np.random.Generator) -> Floats:
    low = rng.uniform(0.26, 0.36)
    return _season(days, low, rng.uniform(0.54, 0.68), rng.normal(122, 10), rng.normal(278, 12), 16)


def _grassland(days: Floats, rng: np.random.Generator) -> Floats:
    low = rng.uniform(0.28, 0.44)
    curve = _season(days, low, rng.uniform(0.66, 0.84), rng.normal(92, 11), rng.normal(300, 12), 13)
    for _ in range(rng.integers(1, 4)):
        mown = rng.uniform(140, 260)
        recovery = np.where(days >= mown, np.exp(-(days - mown) / rng.uniform(14, 26)), 0.0)
        curve = curve - rng.uniform(0.18, 0.34) * recovery
    return curve


def _cropland(days: Floats, rng: np.random.Generator) -> Floats:
    """A crop calendar: winter cereal, sometimes with a catch crop, or a summer crop."""
    bare = rng.uniform(0.13, 0.24)
    if rng.uniform() < 0.5:
        curve = _season(
            days, bare, rng.uniform(0.72, 0.88), rng.normal(82, 10), rng.normal(180, 8), 8
        )
        if rng.uniform() < 0.4:
            catch = _season(days, 0.0, rng.uniform(0.2, 0.5), rng.normal(235, 8), 330.0, 9)
            curve = curve + catch
        return curve
    weeds = _season(days, 0.0, rng.uniform(0.0, 0.2), 75.0, 118.0, 8)
    return weeds + _season(
        days, bare, rng.uniform(0.70, 0.88), rng.normal(160, 11), rng.normal(258, 11), 8
    )


def _water(days: Floats, rng: np.random.Generator) -> Floats:
    bloom = rng.uniform(0.0, 0.22)
    return _season(days, rng.uniform(-0.25, 0.05), 0.0, 150, 270, 20) + bloom * np.exp(
        -(((days - 215) / 35) ** 2)
    )


def _built_up(days: Floats, rng: np.random.Generator) -> Floats:
    gardens = rng.uniform(0.0, 0.5)
    low = rng.uniform(0.08, 0.18)
    return _season(days, low, low + 0.1 + 0.5 * gardens, rng.normal(108, 12), 288, 14)


_COVERS = (
    _Cover(DatasetClass(value=1, name="forest", color_hint="1B7837"), 0.28, _forest),
    _Cover(DatasetClass(value=2, name="grassland", color_hint="A6D96A"), 0.22, _grassland),
    _Cover(DatasetClass(value=3, name="cropland", color_hint="F1B82D"), 0.22, _cropland),
    _Cover(DatasetClass(value=4, name="shrubland", color_hint="8C6D31"), 0.11, _shrubland),
    _Cover(DatasetClass(value=5, name="water", color_hint="2B83BA"), 0.07, _water),
    _Cover(DatasetClass(value=6, name="built-up", color_hint="B2182B"), 0.10, _built_up),
)


# One chip


def _chip(
    spec: SyntheticSpec, times: list[datetime], rng: np.random.Generator
) -> tuple[Floats, Integers]:
    """NDVI ``[date, row, column]`` with NaN under clouds, and class values ``[row, column]``."""
    days = np.array([float(time.timetuple().tm_yday) for time in times])
    patches = _patches(spec.size, rng)
    kinds = rng.choice(
        len(_COVERS), size=int(patches.max()) + 1, p=[cover.share for cover in _COVERS]
    )
    curves = np.stack([_COVERS[kind].curve(days, rng) for kind in kinds])
    clean = curves[patches].transpose(2, 0, 1)
    mixed = _mix_edges(clean, rng)
    within = rng.normal(0.0, 0.03, size=(1, spec.size, spec.size))
    ndvi = mixed + within + rng.normal(0.0, 0.035, size=mixed.shape)
    labels = np.array([cover.entry.value for cover in _COVERS])[kinds[patches]]
    return _veil(np.clip(ndvi, -0.9, 0.95), rng), labels


def _patches(size: int, rng: np.random.Generator) -> Integers:
    """A Voronoi mosaic: the index of the nearest of some random seeds, for every pixel."""
    seeds = rng.uniform(0, size, size=(rng.integers(4, 9), 2))
    rows, columns = np.mgrid[0:size, 0:size]
    distance = (rows[..., None] - seeds[:, 0]) ** 2 + (columns[..., None] - seeds[:, 1]) ** 2
    nearest: Integers = np.argmin(distance, axis=-1)
    return nearest


def _mix_edges(clean: Floats, rng: np.random.Generator) -> Floats:
    """Light from the four neighbours, as the sensor's point spread mixes it."""
    padded = np.pad(clean, ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = (
        padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    ) / 4
    share = rng.uniform(0.15, 0.45, size=(1, *clean.shape[1:]))
    mixed: Floats = clean * (1 - share) + around * share
    return mixed


def _veil(ndvi: Floats, rng: np.random.Generator) -> Floats:
    """Clouds as NaN, and haze that nobody masked as lower values."""
    veiled = ndvi.copy()
    size = ndvi.shape[1]
    for date in range(len(veiled)):
        cover = rng.beta(0.7, 1.1)
        field = _smooth_noise(size, rng)
        hidden = field <= np.quantile(field, cover) if cover > 0.03 else np.zeros_like(field, bool)
        if rng.uniform() < 0.25:
            veiled[date] = veiled[date] * (1 - rng.uniform(0.1, 0.5) * _smooth_noise(size, rng))
        veiled[date][hidden] = np.nan
    return veiled


def _smooth_noise(size: int, rng: np.random.Generator) -> Floats:
    """Noise in 0..1 that changes over several pixels: a coarse grid, interpolated."""
    knots, at = np.linspace(0, 1, 5), np.linspace(0, 1, size)
    coarse = rng.uniform(size=(5, 5))
    rows = np.stack([np.interp(at, knots, row) for row in coarse])
    return np.stack([np.interp(at, knots, rows[:, column]) for column in range(size)], axis=1)


# Files


def _write_chip(
    folder: Path, index: int, series: Floats, labels: Integers, times: list[datetime]
) -> None:
    folder.mkdir(exist_ok=True)
    stored = np.where(np.isnan(series), NODATA, np.round(series / SCALE)).astype(np.int16)
    name = f"chip{index:02d}"
    descriptions = [time.strftime("%Y-%m-%dT%H:%M:%SZ") for time in times]
    _write_raster(folder / f"{name}_data.tif", index, stored, NODATA, descriptions)
    _write_raster(
        folder / f"{name}_labels.tif", index, labels.astype(np.uint8)[None], 0, ["land cover"]
    )


def _write_raster(
    path: Path, index: int, pixels: npt.NDArray[Any], nodata: int, descriptions: list[str]
) -> None:
    import rasterio
    from rasterio.transform import from_origin

    row, column = divmod(index, _COLUMNS)
    bands, height, width = pixels.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=width,
        height=height,
        count=bands,
        dtype=pixels.dtype,
        crs=f"EPSG:{_EPSG}",
        transform=from_origin(_WEST + column * _SPACING, _NORTH - row * _SPACING, _PIXEL, _PIXEL),
        nodata=nodata,
        compress="deflate",
    ) as raster:
        raster.write(pixels)
        raster.descriptions = descriptions
        if bands > 1:
            raster.scales = [SCALE] * bands
