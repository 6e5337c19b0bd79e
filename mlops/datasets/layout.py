"""How a folder says which files are samples: subfolders for splits, or ``samples.csv``.

``samples.csv`` has the columns ``data,labels,split`` and, if wanted, ``id`` and ``datetime``; paths
are relative to the folder. Without it, splits are the subfolders ``train``, ``validation`` (or
``val``, ``valid``, ``validate``) and ``test``, and a raster belongs to its labels by the suffix of
its name: ``X_labels.tif`` to ``X.tif`` or ``X_data.tif``.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from mlops.datasets import DatasetError
from mlops.datasets.times import Interval, parse_interval
from mlops.jobs import SPLITS, Split

SAMPLES_FILE = "samples.csv"
CLASSES_FILE = "classes.json"
DATACARD_FILES = ("datacard.md", "README.md")
_OWN_FILES = frozenset({SAMPLES_FILE, CLASSES_FILE, *DATACARD_FILES})
_RASTERS = frozenset({".tif", ".tiff"})
_ALIASES: dict[str, Split] = {
    **{split: split for split in SPLITS},
    "val": "validation",
    "valid": "validation",
    "validate": "validation",
}
_COLUMNS = frozenset({"data", "labels", "split"})
_OPTIONAL_COLUMNS = frozenset({"id", "datetime"})


@dataclass(frozen=True)
class Suffixes:
    """Ends of file names, before the extension, that tell data from labels.

    An empty string among ``data`` stands for a name with no suffix at all.
    """

    data: tuple[str, ...] = ("_data", "")
    labels: tuple[str, ...] = ("_labels",)

    @classmethod
    def of(cls, data: Iterable[str] = (), labels: Iterable[str] = ()) -> "Suffixes":
        """Suffixes as a user gives them; none given means the usual. An extension is dropped.

        >>> Suffixes.of(["_ndvi.tif"]).data
        ('_ndvi',)
        """
        usual = cls()
        return cls(
            tuple(_without_extension(suffix) for suffix in data) or usual.data,
            tuple(_without_extension(suffix) for suffix in labels) or usual.labels,
        )


@dataclass(frozen=True)
class Pair:
    """A sample as the folder names it. ``interval`` is what ``samples.csv`` says of its time."""

    id: str
    split: Split
    data: Path
    labels: Path | None
    interval: Interval | None = None


@dataclass(frozen=True)
class Ignored:
    """A file that is no part of the dataset, and why."""

    path: str
    reason: str


@dataclass
class Layout:
    """The samples of a folder and the files that are none. ``problems`` are sentences."""

    folder: Path
    pairs: list[Pair] = field(default_factory=list)
    ignored: list[Ignored] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def name(self, path: Path) -> str:
        """A file's path relative to the folder, with slashes."""
        return path.relative_to(self.folder).as_posix()


def read_layout(folder: Path, suffixes: Suffixes | None = None) -> Layout:
    """Find the samples of ``folder``; :class:`DatasetError` with all that is wrong."""
    if not folder.is_dir():
        raise DatasetError([f"{folder} is no folder"])
    layout = Layout(folder)
    if (folder / SAMPLES_FILE).is_file():
        _from_table(layout)
    else:
        _from_subfolders(layout, suffixes or Suffixes())
    if not layout.pairs and not layout.problems:
        layout.problems.append(_empty(folder))
    layout.problems += _repeated(layout.pairs)
    if layout.problems:
        raise DatasetError(layout.problems)
    layout.pairs.sort(key=lambda pair: pair.id)
    return layout


def _empty(folder: Path) -> str:
    return (
        f"{folder} holds no samples: put GeoTIFFs (.tif) with their labels (X_labels.tif) into "
        f"the subfolders train, validation and test, or list them in {SAMPLES_FILE}"
    )


def _without_extension(suffix: str) -> str:
    path = PurePosixPath(f"x{suffix}")
    return path.stem[1:] if path.suffix.lower() in _RASTERS else suffix


def _repeated(pairs: list[Pair]) -> Iterator[str]:
    seen: dict[str, Pair] = {}
    for pair in pairs:
        first = seen.setdefault(pair.id, pair)
        if first is pair:
            continue
        if first.split != pair.split:
            yield (
                f"sample {pair.id!r} is in two splits, {first.split} and {pair.split}: a sample "
                "belongs to one; rename one file if they are different samples"
            )
        else:
            yield f"sample id {pair.id!r} occurs twice ({first.data.name} and {pair.data.name})"


# From samples.csv


def _from_table(layout: Layout) -> None:
    table = layout.folder / SAMPLES_FILE
    used: set[Path] = set()
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            _check_columns(rows.fieldnames or ())
            for number, row in enumerate(rows, start=2):
                try:
                    pair = _pair_of_row(layout, row)
                except ValueError as error:
                    layout.problems.append(f"{SAMPLES_FILE} line {number}: {error}")
                else:
                    layout.pairs.append(pair)
                    used |= {pair.data, *([pair.labels] if pair.labels else [])}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError([f"{SAMPLES_FILE} is no UTF-8 CSV file: {error}"]) from error
    for path in _files(layout.folder):
        if path not in used:
            _ignore(layout, path, f"not in {SAMPLES_FILE}")


def _check_columns(names: Iterable[str]) -> None:
    missing, unknown = _COLUMNS - set(names), set(names) - _COLUMNS - _OPTIONAL_COLUMNS
    if missing:
        raise DatasetError([f"{SAMPLES_FILE} lacks the column(s) {', '.join(sorted(missing))}"])
    if unknown:
        allowed = ", ".join(sorted(_COLUMNS | _OPTIONAL_COLUMNS))
        raise DatasetError(
            [f"{SAMPLES_FILE} has unknown column(s) {', '.join(sorted(unknown))}: use {allowed}"]
        )


def _pair_of_row(layout: Layout, row: dict[str, str | None]) -> Pair:
    cells = {name: (value or "").strip() for name, value in row.items() if name}
    data = _member(layout.folder, cells["data"])
    if data is None:
        raise ValueError("the column data is empty")
    time = cells.get("datetime")
    return Pair(
        id=cells.get("id") or _id(PurePosixPath(cells["data"])),
        split=_split(cells["split"]),
        data=data,
        labels=_member(layout.folder, cells["labels"]),
        interval=parse_interval(time) if time else None,
    )


def _member(folder: Path, name: str) -> Path | None:
    if not name:
        return None
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{name} lies outside the dataset's folder")
    if not path.is_file():
        raise ValueError(f"there is no file {name}")
    return path


def _split(name: str) -> Split:
    split = _ALIASES.get(name.lower())
    if split is None:
        raise ValueError(f"unknown split {name!r}: use train, validation or test")
    return split


def _id(path: PurePosixPath) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.with_suffix("").as_posix()).strip("-")


# From subfolders


def _from_subfolders(layout: Layout, suffixes: Suffixes) -> None:
    rasters_of: dict[Path, list[Path]] = {}
    for entry in sorted(layout.folder.iterdir()):
        if entry.is_dir():
            rasters = [path for path in _files(entry) if _is_sample_file(layout, path)]
            if entry.name.lower() in _ALIASES:
                rasters_of[entry] = rasters
            elif rasters:
                layout.problems.append(
                    f"{entry.name}/ is no split: rename it to train, validation or test, or list "
                    f"its files in {SAMPLES_FILE}"
                )
        elif entry.suffix.lower() in _RASTERS and not entry.name.startswith("."):
            layout.problems.append(
                f"{entry.name} lies in no split: move it to train, validation or test, or list it "
                f"in {SAMPLES_FILE}"
            )
        else:
            _ignore(layout, entry, "no raster")
    listed = [path for rasters in rasters_of.values() for path in rasters]
    if listed and all(_stem(path, suffixes.labels) is None for path in listed):
        ends = " or ".join(f"{suffix}.tif" for suffix in suffixes.labels)
        layout.problems.append(
            f"none of the {len(listed)} rasters (the first is {layout.name(listed[0])}) ends in "
            f"{ends}: say how label files end with --label-suffix, data files with --data-suffix"
        )
        return
    for entry, rasters in rasters_of.items():
        _pair_up(layout, _ALIASES[entry.name.lower()], entry, rasters, suffixes)


def _pair_up(
    layout: Layout, split: Split, folder: Path, rasters: list[Path], suffixes: Suffixes
) -> None:
    labels = {stem: path for path in rasters if (stem := _stem(path, suffixes.labels)) is not None}
    taken = set(labels.values())
    for path in rasters:
        stem = None if path in taken else _stem(path, suffixes.data)
        if path in taken:
            continue
        if stem is None:
            _ignore(layout, path, f"ends in none of {', '.join(suffixes.data + suffixes.labels)}")
            continue
        found = labels.pop(stem, None)
        if found is None:
            wanted = " or ".join(f"{stem.name}{suffix}.tif" for suffix in suffixes.labels)
            layout.problems.append(f"{layout.name(path)} has no labels: there is no {wanted}")
            continue
        sample_id = _id(PurePosixPath(f"{stem.relative_to(folder).as_posix()}.tif"))
        layout.pairs.append(Pair(sample_id, split, path, found))
    layout.problems += [
        f"{layout.name(path)} has no data: there is no raster of that name to go with it"
        for path in labels.values()
    ]


def _stem(path: Path, suffixes: tuple[str, ...]) -> Path | None:
    """The path without extension and suffix, or None when it has none of the suffixes."""
    for suffix in sorted(suffixes, key=len, reverse=True):
        if path.stem.endswith(suffix) and len(path.stem) > len(suffix):
            return path.with_name(path.stem.removesuffix(suffix))
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _is_sample_file(layout: Layout, path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(layout.folder).parts)
    if not hidden and path.suffix.lower() in _RASTERS:
        return True
    _ignore(layout, path, "hidden" if hidden else "no GeoTIFF")
    return False


def _ignore(layout: Layout, path: Path, reason: str) -> None:
    name = layout.name(path)
    if name not in _OWN_FILES:
        hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
        layout.ignored.append(Ignored(name, "hidden" if hidden else reason))
