"""Datasets: push, list, read, and the samples of a version."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from mlops.api import Api
from mlops.items.ids import collection_id
from mlops.items.kinds import Kind
from mlops.sdk.assets import Downloaded, download_asset
from mlops.sdk.records import DatasetVersion
from mlops.sdk.versions import Family, find_version, versions_of
from mlops.sdk.workspaces import Workspaces

if TYPE_CHECKING:
    from mlops.datasets.layout import Suffixes
    from mlops.datasets.manifest import Manifest, ManifestFile
    from mlops.datasets.push import OnProgress, PushResult
    from mlops.datasets.times import Interval


class Data:
    """The datasets of a workspace. Pushing and manifests need ``stac-mlops[data]``."""

    def __init__(self, api: Api, workspaces: Workspaces) -> None:
        self._api = api
        self._workspaces = workspaces

    def push(
        self,
        folder: Path | str,
        dataset: str,
        *,
        workspace: str | None = None,
        title: str | None = None,
        description: str | None = None,
        suffixes: "Suffixes | None" = None,
        interval: "Interval | None" = None,
        on_progress: "OnProgress | None" = None,
    ) -> "PushResult":
        """Push a folder as a version of a dataset; see :func:`mlops.datasets.push.push`."""
        from mlops.datasets.push import PushRequest, push

        request = PushRequest(
            folder=Path(folder),
            workspace=self._workspaces.resolve(workspace),
            dataset=dataset,
            title=title,
            description=description,
            suffixes=suffixes,
            interval=interval,
        )
        return push(self._api, request, on_progress)

    def list(
        self, *, workspace: str | None = None, dataset: str | None = None
    ) -> list[DatasetVersion]:
        """All versions, or those of one dataset: by name, then by version."""
        found = versions_of(self._api, self._family(workspace), dataset)
        return [DatasetVersion.of(item) for item in found]

    def get(self, reference: str, *, workspace: str | None = None) -> DatasetVersion:
        """A version by ``name`` (the latest), ``name:v2`` or ``name-v2``."""
        return DatasetVersion.of(find_version(self._api, self._family(workspace), reference))

    def manifest(self, version: DatasetVersion, folder: Path) -> "Manifest":
        """Download a version's manifest into ``folder``, check and read it."""
        from mlops.datasets.manifest import read_manifest

        path = folder / f"{version.id}.parquet"
        download_asset(self._api, version.item["assets"]["manifest"], path)
        return read_manifest(path)

    def download_file(
        self,
        version: DatasetVersion,
        file: "ManifestFile",
        path: Path,
        on_received: Callable[[int], None] | None = None,
    ) -> Downloaded:
        """Download a file that a version's manifest names to ``path``, checked."""
        manifest_href = version.item["assets"]["manifest"]["href"]
        asset = {
            "href": urljoin(manifest_href, file.href),
            "file:size": file.size,
            "file:checksum": f"1220{file.sha256}",
        }
        return download_asset(self._api, asset, path, on_received)

    def _family(self, workspace: str | None) -> Family:
        collection = collection_id(self._workspaces.resolve(workspace), Kind.TRAINING_DATA)
        return Family("dataset", collection, "mlops:dataset")
