"""Pushing a folder as a version of a dataset: files first, manifest next, the Item last.

Nothing is visible before all of it is there. Files are named by their content, so a version costs
what changed and pushing again makes no new version.
"""

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from mlops.api import Api, Item
from mlops.datasets import DatasetError
from mlops.datasets.datacard import datacard, first_paragraph
from mlops.datasets.layout import Suffixes
from mlops.datasets.manifest import Manifest
from mlops.datasets.scan import OnStep, ScannedDataset, scan
from mlops.datasets.times import Interval
from mlops.datasets.version import (
    LocalFile,
    build_manifest,
    checksum,
    checksums,
    datacard_asset,
    dataset_item,
    extensions_of,
    manifest_asset,
    sample_paths,
)
from mlops.items.ids import check_id, check_workspace_id, collection_id
from mlops.items.kinds import Kind

_PARALLEL_UPLOADS = 8
_FILES_PER_REQUEST = 1000

Stage = Literal["reading", "hashing", "uploading"]
OnProgress = Callable[[Stage, int, int], None]
"""Told ``(stage, done, total)``: files while reading, bytes while hashing and uploading."""


@dataclass(frozen=True)
class PushRequest:
    """What to push, and as which dataset.

    ``interval`` is the time of samples that name none. Where there is no description, the first
    paragraph of the folder's datacard is it.
    """

    folder: Path
    workspace: str
    dataset: str
    title: str | None = None
    description: str | None = None
    suffixes: Suffixes | None = None
    interval: Interval | None = None


@dataclass(frozen=True)
class PushResult:
    """A pushed version. ``created`` is False where the dataset had this very version before.

    Files and bytes are those of the samples; manifest and datacard come on top.
    """

    item: Item
    created: bool
    scanned: ScannedDataset
    uploaded_files: int
    uploaded_bytes: int
    total_files: int
    total_bytes: int


def push(api: Api, request: PushRequest, on_progress: OnProgress | None = None) -> PushResult:
    """Push a folder as a version of a dataset.

    Raises :class:`DatasetError` when the folder is not as it should be,
    :class:`mlops.api.FileChangedError` when a file changes meanwhile, and
    :class:`mlops.api.ApiError` when the API refuses; no version is made then.
    """
    check_workspace_id(request.workspace)
    check_id(request.dataset, "dataset name")
    scanned = scan(
        request.folder,
        request.suffixes,
        interval=request.interval,
        on_step=_stage(on_progress, "reading"),
    )
    hashed = checksums(sample_paths(scanned), _stage(on_progress, "hashing"))
    manifest = build_manifest(scanned, hashed)
    with tempfile.TemporaryDirectory(prefix="mlops-push-") as folder:
        manifest_file = _write_manifest(manifest, Path(folder))
        card = _write_datacard(request, scanned, manifest, Path(folder))
        samples = {file.sha256: file for file in hashed.values()}
        uploader = _Uploader(api, request.workspace, _stage(on_progress, "uploading"))
        uploader.upload(samples)
        uploaded_files, uploaded_bytes = uploader.files, uploader.bytes
        # The manifest goes last: where a manifest is, there is all that it names.
        hrefs = uploader.upload({file.sha256: file for file in (card, manifest_file)})
    item = dataset_item(
        request.dataset,
        scanned,
        manifest,
        title=request.title,
        description=request.description or first_paragraph(scanned.datacard),
    )
    item["assets"] = {
        "manifest": manifest_asset(hrefs[manifest_file.sha256], manifest_file, scanned),
        "datacard": datacard_asset(hrefs[card.sha256], card),
    }
    item["stac_extensions"] += extensions_of(item["assets"])
    collection = collection_id(request.workspace, Kind.TRAINING_DATA)
    stored, created = api.create_item(collection, item)
    return PushResult(
        item=stored,
        created=created,
        scanned=scanned,
        uploaded_files=uploaded_files,
        uploaded_bytes=uploaded_bytes,
        total_files=len(samples),
        total_bytes=sum(file.size for file in samples.values()),
    )


def _stage(on_progress: OnProgress | None, stage: Stage) -> OnStep | None:
    if on_progress is None:
        return None
    return lambda done, total: on_progress(stage, done, total)


def _write_manifest(manifest: Manifest, folder: Path) -> LocalFile:
    path = folder / "manifest.parquet"
    manifest.write(path)
    return checksum(path)


def _write_datacard(
    request: PushRequest, scanned: ScannedDataset, manifest: Manifest, folder: Path
) -> LocalFile:
    if scanned.datacard:
        return checksum(scanned.datacard)
    path = folder / "datacard.md"
    text = datacard(request.dataset, request.description, scanned, manifest)
    path.write_text(text, encoding="utf-8")
    return checksum(path)


class _Uploader:
    """Uploads what the store lacks and counts it."""

    def __init__(self, api: Api, workspace: str, on_bytes: OnStep | None) -> None:
        self._api = api
        self._workspace = workspace
        self._on_bytes = on_bytes
        self._lock = Lock()
        self._sent = 0
        self.files = 0
        self.bytes = 0

    def upload(self, files: dict[str, LocalFile]) -> dict[str, str]:
        """Upload the missing ones of these, by SHA-256; the asset href of each."""
        hrefs, missing = self._plan(list(files.values()))
        self.files += len(missing)
        self.bytes += sum(files[entry["sha256"]].size for entry in missing)
        with ThreadPoolExecutor(_PARALLEL_UPLOADS) as pool:
            futures = [
                pool.submit(self._put, entry["url"], files[entry["sha256"]]) for entry in missing
            ]
            try:
                for future in futures:
                    future.result()
            finally:
                # After a failure nothing more is started; what is under way ends by itself.
                pool.shutdown(wait=True, cancel_futures=True)
        return hrefs

    def _plan(self, files: list[LocalFile]) -> tuple[dict[str, str], list[dict[str, Any]]]:
        hrefs: dict[str, str] = {}
        missing: list[dict[str, Any]] = []
        for start in range(0, len(files), _FILES_PER_REQUEST):
            part = files[start : start + _FILES_PER_REQUEST]
            plan = self._api.plan_uploads(
                self._workspace, [{"sha256": file.sha256, "size": file.size} for file in part]
            )
            hrefs |= {entry["sha256"]: entry["href"] for entry in plan["files"]}
            missing += plan["missing"]
        return hrefs, missing

    def _put(self, url: str, file: LocalFile) -> None:
        try:
            self._api.upload(url, file.path, file.sha256, self._count)
        except OSError as error:
            reason = error.strerror or error
            raise DatasetError([f"{file.path} cannot be read any more: {reason}"]) from error

    def _count(self, sent: int) -> None:
        with self._lock:
            self._sent += sent
            if self._on_bytes:
                self._on_bytes(self._sent, self.bytes)
