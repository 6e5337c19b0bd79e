"""Scanning a folder: its samples with footprints, times and classes, read from the files."""

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mlops.datasets import DatasetError
from mlops.datasets.classes import ClassTable, classes_found, read_classes
from mlops.datasets.footprints import WORLD, WORLD_BBOX, Footprint
from mlops.datasets.layout import (
    CLASSES_FILE,
    DATACARD_FILES,
    Ignored,
    Layout,
    Pair,
    Suffixes,
    read_layout,
)
from mlops.datasets.rasters import Band, Grid, RasterError, check_pixels, count_labels, read_raster
from mlops.datasets.times import Interval
from mlops.jobs import Split

_THREADS = 8
OnStep = Callable[[int, int], None]
"""Told ``(done, total)`` while something goes on."""


@dataclass(frozen=True)
class ScannedSample:
    """A sample as its files describe it. ``pixels`` counts label pixels by value."""

    id: str
    split: Split
    data: Path
    labels: Path | None
    footprint: Footprint = field(repr=False)
    interval: Interval
    pixels: dict[int, int]
    bands: tuple[Band, ...] = field(repr=False)


@dataclass(frozen=True)
class ScannedDataset:
    """A folder's samples, sorted by id. ``notes`` are sentences that its owner should read."""

    folder: Path
    samples: tuple[ScannedSample, ...]
    classes: ClassTable
    ignored: tuple[Ignored, ...]
    notes: tuple[str, ...]
    non_spatial: bool
    datacard: Path | None

    @property
    def pixels(self) -> dict[int, int]:
        """Label pixels of all samples by value."""
        total: Counter[int] = Counter()
        for sample in self.samples:
            total.update(sample.pixels)
        return dict(total)

    @property
    def common_bands(self) -> tuple[Band, ...] | None:
        """The bands of every sample, or None where samples differ."""
        first = self.samples[0].bands
        return first if all(sample.bands == first for sample in self.samples) else None


@dataclass(frozen=True)
class _Reading:
    """What the files of a pair say."""

    pair: Pair
    grid: Grid
    footprint: Footprint | None
    interval: Interval | None
    bands: tuple[Band, ...]
    pixels: dict[int, int]
    nodata: int | None


def scan(
    folder: Path,
    suffixes: Suffixes | None = None,
    *,
    interval: Interval | None = None,
    on_step: OnStep | None = None,
) -> ScannedDataset:
    """Read a folder of samples.

    ``interval`` is the time of samples whose files and ``samples.csv`` name none. Raises
    :class:`DatasetError` with every problem found, each naming its file.
    """
    folder = folder.absolute()
    layout = read_layout(folder, suffixes)
    classes = read_classes(folder)
    readings = _read_all(layout, on_step)
    non_spatial = all(reading.footprint is None for reading in readings)
    problems = [
        *_places_missing(layout, readings, non_spatial),
        *_times_missing(layout, readings, interval),
        *_values_unknown(layout, readings, classes),
    ]
    if problems:
        raise DatasetError(problems)
    samples = tuple(_sample(reading, interval) for reading in readings)
    return ScannedDataset(
        folder=folder,
        samples=samples,
        classes=classes or _classes_of(readings),
        ignored=tuple(sorted(layout.ignored, key=lambda entry: entry.path)),
        notes=tuple(_notes(samples, non_spatial)),
        non_spatial=non_spatial,
        datacard=next((folder / n for n in DATACARD_FILES if (folder / n).is_file()), None),
    )


def _read_all(layout: Layout, on_step: OnStep | None) -> list[_Reading]:
    readings, problems = [], []
    with ThreadPoolExecutor(_THREADS) as pool:
        outcomes = pool.map(lambda pair: _read_or_say(layout, pair), layout.pairs)
        for done, outcome in enumerate(outcomes, start=1):
            if isinstance(outcome, _Reading):
                readings.append(outcome)
            else:
                problems.append(outcome)
            if on_step:
                on_step(done, len(layout.pairs))
    if problems:
        raise DatasetError(problems)
    return readings


def _read_or_say(layout: Layout, pair: Pair) -> _Reading | str:
    """Read a pair, or say in a sentence why it cannot be read."""
    path = pair.data
    try:
        raster = read_raster(path)
        check_pixels(path)
        pixels: dict[int, int] = {}
        nodata = None
        if pair.labels is not None:
            path = pair.labels
            grid, pixels, nodata = count_labels(path)
            _check_one_grid(layout.name(pair.data), raster.grid, grid)
    except RasterError as error:
        return f"{layout.name(path)}: {error}"
    return _Reading(
        pair=pair,
        grid=raster.grid,
        footprint=raster.footprint,
        interval=pair.interval or raster.interval,
        bands=raster.bands,
        pixels=pixels,
        nodata=nodata,
    )


def _check_one_grid(data: str, grid: Grid, labels: Grid) -> None:
    if (grid.width, grid.height) != (labels.width, labels.height):
        sizes = f"{labels.width} x {labels.height} pixels, {data} has {grid.width} x {grid.height}"
        raise RasterError(f"labels must lie on the grid of their data: they have {sizes}")
    if grid.crs and labels.crs and grid != labels:
        raise RasterError(f"labels must lie on the grid of {data}: CRS or transform differ")


def _places_missing(layout: Layout, readings: list[_Reading], non_spatial: bool) -> Iterable[str]:
    if non_spatial:
        return
    for reading in readings:
        if reading.footprint is None:
            yield (
                f"{layout.name(reading.pair.data)} has no CRS, though other samples have one: "
                "assign it (gdal_edit.py -a_srs EPSG:... FILE)"
            )


def _times_missing(
    layout: Layout, readings: list[_Reading], interval: Interval | None
) -> list[str]:
    missing = [r for r in readings if r.interval is None and interval is None]
    if not missing:
        return []
    names = ", ".join(layout.name(reading.pair.data) for reading in missing[:3])
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    return [
        f"{names}{more} do not say their time: describe each band with its time (ISO 8601), set "
        "the tag TIFFTAG_DATETIME, add the column datetime to samples.csv, or give one time for "
        "all such samples (--datetime)"
    ]


def _values_unknown(
    layout: Layout, readings: list[_Reading], classes: ClassTable | None
) -> Iterable[str]:
    if classes is None:
        return
    for reading in readings:
        # A value that the raster itself calls nodata needs no class.
        unknown = set(reading.pixels) - classes.values - {reading.nodata}
        if unknown and reading.pair.labels is not None:
            name = layout.name(reading.pair.labels)
            values = ", ".join(str(value) for value in sorted(unknown))
            yield f"{name} holds the value(s) {values}, which {CLASSES_FILE} does not name"


def _classes_of(readings: list[_Reading]) -> ClassTable:
    values = {value for reading in readings for value in reading.pixels}
    nodata = {reading.nodata for reading in readings if reading.nodata is not None}
    return classes_found(values, nodata)


def _sample(reading: _Reading, interval: Interval | None) -> ScannedSample:
    time = reading.interval or interval
    if time is None:
        raise DatasetError([f"{reading.pair.data.name} does not say its time"])
    return ScannedSample(
        id=reading.pair.id,
        split=reading.pair.split,
        data=reading.pair.data,
        labels=reading.pair.labels,
        footprint=reading.footprint or Footprint(WORLD, WORLD_BBOX),
        interval=time,
        pixels=reading.pixels,
        bands=reading.bands,
    )


def _notes(samples: tuple[ScannedSample, ...], non_spatial: bool) -> Iterable[str]:
    if non_spatial:
        yield (
            "No file has a CRS, so the dataset is recorded as non-spatial and will not be found "
            "by place."
        )
    splits = {sample.split for sample in samples}
    if "train" not in splits:
        yield "There is no split train: the dataset cannot be trained on."
    if "test" not in splits:
        yield "There is no split test: nothing is held out to score a model on."
    shapes = Counter((len(s.bands), s.bands[0].data_type) for s in samples)
    if len(shapes) > 1:
        listed = ", ".join(f"{n} with {b} x {t}" for (b, t), n in shapes.most_common())
        yield f"Bands disagree among samples: {listed}."
    unlabelled = sum(sample.labels is None for sample in samples)
    if unlabelled:
        yield f"{unlabelled} of {len(samples)} samples have no labels."
