"""Staging: bring the samples of a job's dataset versions into its channel folders, all checked.

Below each channel, ``{dataset item}/{sample id}/{original file name}``. Every file's SHA-256 is
compared with the manifest's, and every manifest's with the job document's, before a script starts.
"""

import os
import posixpath
from collections.abc import Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import Event
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from mlops.datasets import DatasetError
from mlops.datasets.manifest import ManifestFile, ManifestSample, read_manifest
from mlops.jobs import SPLITS, JobDataset, Split
from mlops.storage import MissingObjectError, ObjectStore
from training.contract import WorkFolders

_PARALLEL = 16

STAGED_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("dataset", pa.string()),
        ("split", pa.string()),
        ("data", pa.string()),
        ("labels", pa.string()),
    ]
)
"""The table at ``MLOPS_MANIFEST``: a row a sample; ``data`` and ``labels`` are paths of files."""


class BadInputError(Exception):
    """The job document or the data are not as they should be; the message says what to do."""


class StoppedError(Exception):
    """The job was asked to stop before its data was staged."""


@dataclass(frozen=True)
class Sample:
    """A sample of a dataset version; ``root`` is the key prefix that its files lie under."""

    dataset: str
    root: str
    entry: ManifestSample

    @property
    def files(self) -> dict[str, ManifestFile]:
        """Its files by asset key."""
        labels = self.entry.labels
        return {"data": self.entry.data} | ({} if labels is None else {"labels": labels})


@dataclass(frozen=True)
class Staged:
    """What was staged: the samples of each channel, and how many bytes in how many files."""

    samples: dict[Split, list[Sample]]
    files: int
    size: int

    @property
    def channels(self) -> tuple[Split, ...]:
        """The channels that hold samples."""
        return tuple(split for split in SPLITS if self.samples[split])

    def summary(self) -> str:
        """One line for the log."""
        counts = ", ".join(f"{len(self.samples[split])} {split}" for split in self.channels)
        return f"staged {counts} samples ({self.files} files, {self.size / 1e6:.1f} MB, checked)"


def stage(
    store: ObjectStore, datasets: list[JobDataset], folders: WorkFolders, stopping: Event
) -> Staged:
    """Download and check all samples of ``datasets``, and write the table at ``MLOPS_MANIFEST``.

    Raises :class:`BadInputError` naming the file and sample that is missing or altered, or the
    channel that is empty, and :class:`StoppedError` soon after ``stopping`` is set.
    """
    folders.create()
    samples = assign_channels(
        [(dataset, dataset_samples(store, dataset, folders)) for dataset in datasets]
    )
    files = _download(store, samples, folders, stopping)
    for split in SPLITS:
        for sample in samples[split]:
            _place(sample, folders, split)
    _write_table(samples, folders)
    return Staged(samples, len(files), sum(file.size for file in files))


def merged_classes(datasets: Iterable[JobDataset]) -> list[dict[str, Any]]:
    """The classes of all datasets by value; one value with two names is a BadInputError."""
    merged: dict[int, tuple[dict[str, Any], str]] = {}
    for dataset in datasets:
        for entry in dataset.classes:
            known, origin = merged.setdefault(int(entry["value"]), (entry, dataset.item))
            if known.get("name") != entry.get("name"):
                raise BadInputError(
                    f"label value {entry['value']} is {known.get('name')!r} in {origin} but "
                    f"{entry.get('name')!r} in {dataset.item}: datasets of one run need the same "
                    "classes"
                )
    return [merged[value][0] for value in sorted(merged)]


def dataset_samples(store: ObjectStore, dataset: JobDataset, folders: WorkFolders) -> list[Sample]:
    """The samples that a dataset version's manifest lists, once its checksum is verified."""
    path = folders.blobs / f"manifest-{dataset.manifest_sha256}.parquet"
    try:
        stored = store.get_file(dataset.manifest_key, path)
    except MissingObjectError as error:
        raise BadInputError(
            f"the manifest of dataset {dataset.item} is missing: {error}"
        ) from error
    if stored.sha256 != dataset.manifest_sha256:
        raise BadInputError(
            f"the manifest of dataset {dataset.item} was altered: its SHA-256 is {stored.sha256}, "
            f"not {dataset.manifest_sha256}. Push the dataset again as a new version."
        )
    try:
        manifest = read_manifest(path)
    except DatasetError as error:
        raise BadInputError(f"dataset {dataset.item}: {error}") from error
    root = posixpath.dirname(posixpath.dirname(dataset.manifest_key))
    return [Sample(dataset.item, root, entry) for entry in manifest.samples]


def assign_channels(datasets: list[tuple[JobDataset, list[Sample]]]) -> dict[Split, list[Sample]]:
    """Which samples each channel gets.

    A channel that links name is filled from the datasets of those links only; one that no link
    names from the splits of all the datasets. So a single link that says "train" still brings the
    validation and test samples of its dataset, and a link that says "test" beside another replaces
    the test samples of that other dataset.
    """
    named = {dataset.split for dataset, _ in datasets if dataset.split is not None}
    channels: dict[Split, list[Sample]] = {split: [] for split in SPLITS}
    taken: set[tuple[str, str]] = set()
    for dataset, samples in datasets:
        wanted = (set(SPLITS) - named) | {dataset.split}
        for sample in samples:
            identity = (sample.dataset, sample.entry.id)
            # One dataset may be linked once for each split.
            if sample.entry.split in wanted and identity not in taken:
                taken.add(identity)
                channels[sample.entry.split].append(sample)
    for split in SPLITS:
        channels[split].sort(key=lambda sample: (sample.dataset, sample.entry.id))
    if not channels["train"]:
        listed = ", ".join(dataset.item for dataset, _ in datasets) or "no dataset"
        raise BadInputError(
            f"there are no training samples in {listed}: push a dataset with a split named "
            "'train', or link one that has it"
        )
    return channels


def _download(
    store: ObjectStore,
    samples: dict[Split, list[Sample]],
    folders: WorkFolders,
    stopping: Event,
) -> list[ManifestFile]:
    """Fetch each distinct file once, in parallel; the first fault ends the others."""
    wanted: dict[str, tuple[ManifestFile, Sample]] = {}
    for split in SPLITS:
        for sample in samples[split]:
            for file in sample.files.values():
                wanted.setdefault(file.sha256, (file, sample))
    failed = Event()

    def fetch(file: ManifestFile, sample: Sample) -> None:
        if not failed.is_set() and not stopping.is_set():
            _fetch(store, file, sample, folders)

    with ThreadPoolExecutor(max_workers=_PARALLEL, thread_name_prefix="stage") as pool:
        futures = [pool.submit(fetch, file, sample) for file, sample in wanted.values()]
        wait(futures, return_when=FIRST_EXCEPTION)
        failed.set()
        for future in futures:
            if future.done():
                future.result()
        wait(futures)
    if stopping.is_set():
        raise StoppedError
    return [file for file, _ in wanted.values()]


def _fetch(store: ObjectStore, file: ManifestFile, sample: Sample, folders: WorkFolders) -> None:
    where = f"{file.title} of sample {sample.entry.id} in dataset {sample.dataset}"
    key = f"{sample.root}/{file.sha256[:2]}/{file.sha256}"
    try:
        stored = store.get_file(key, folders.blobs / file.sha256)
    except MissingObjectError as error:
        raise BadInputError(
            f"{where} is missing from the object store (key {key}): push the dataset again to "
            "restore it"
        ) from error
    if stored.sha256 != file.sha256:
        raise BadInputError(
            f"{where} was altered: its SHA-256 is {stored.sha256[:12]}…, the manifest says "
            f"{file.sha256[:12]}… (key {key}). Remove that object and push the dataset again."
        )


def _place(sample: Sample, folders: WorkFolders, split: Split) -> None:
    for key, file in sample.files.items():
        path = _path(sample, key, folders, split)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        os.link(folders.blobs / file.sha256, path)


def _path(sample: Sample, key: str, folders: WorkFolders, split: Split) -> Path:
    # Ids and names come from outside: quoting keeps each a single, harmless path segment.
    name = PurePosixPath(sample.files[key].title).name or key
    others = {file.title for other, file in sample.files.items() if other != key}
    if sample.files[key].title in others:
        name = f"{key}-{name}"
    segments = (sample.dataset, sample.entry.id, name)
    return folders.channel(split).joinpath(*map(_segment, segments))


def _segment(name: str) -> str:
    quoted = quote(name, safe=" ")
    return quoted.replace(".", "%2E") if set(quoted) <= {"."} else quoted


def _write_table(samples: dict[Split, list[Sample]], folders: WorkFolders) -> None:
    rows = [
        {
            "id": sample.entry.id,
            "dataset": sample.dataset,
            "split": split,
            "data": str(_path(sample, "data", folders, split)),
            "labels": str(_path(sample, "labels", folders, split))
            if "labels" in sample.files
            else None,
        }
        for split in SPLITS
        for sample in samples[split]
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=STAGED_SCHEMA), folders.manifest)
