"""Pushing datasets to a real API: nothing twice, nothing half, nothing that changed meanwhile."""

from pathlib import Path

import numpy as np
import pytest

from mlops.api import FileChangedError, NotFoundError
from mlops.datasets import DatasetError
from mlops.sdk import Client, DatasetVersion
from mlops.sdk.assets import AssetError
from tests.conftest import ApiServer
from tests.unit.datasets.rasters import TIMES, write_pair, write_raster


@pytest.fixture
def client(api_server: ApiServer) -> Client:
    client = Client(api_server.url, workspace="alps", patience=0)
    client.workspaces.create("alps")
    return client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, split in enumerate(("train", "validation", "test")):
        write_pair(tmp_path / "chips" / split, f"chip{seed}", seed=seed)
    return tmp_path / "chips"


def blobs(server: ApiServer) -> set[str]:
    return {key.rpartition("/")[2] for key in server.store.keys("alps/training-data/blobs/")}


def test_a_push_makes_a_version_with_its_manifest(
    client: Client, folder: Path, tmp_path: Path
) -> None:
    result = client.data.push(folder, "fields", title="Fields")
    version = DatasetVersion.of(result.item)
    assert (result.created, version.id, version.version) == (True, "fields-v1", 1)
    # The three label rasters are equal, so they are one file in the store.
    assert (result.uploaded_files, result.total_files) == (4, 4)
    manifest = client.data.manifest(version, tmp_path / "pulled")
    assert manifest.digest == version.digest
    for sample in manifest.samples:
        pulled = client.data.download_file(version, sample.data, tmp_path / "pulled" / "data.tif")
        assert pulled.path.read_bytes() == (folder / sample.data.title).read_bytes()


def test_the_same_again_makes_no_version(client: Client, folder: Path) -> None:
    first = client.data.push(folder, "fields")
    again = client.data.push(folder, "fields")
    assert (again.created, again.uploaded_files) == (False, 0)
    assert again.item["id"] == first.item["id"]
    assert len(client.data.list()) == 1


def test_a_change_makes_a_version_and_uploads_only_it(client: Client, folder: Path) -> None:
    client.data.push(folder, "fields")
    write_pair(folder / "train", "more", seed=7)
    second = client.data.push(folder, "fields")
    assert (second.created, second.uploaded_files) == (True, 1)
    assert [version.id for version in client.data.list()] == ["fields-v1", "fields-v2"]
    assert client.data.get("fields").version == 2
    for reference in ("fields:v1", "fields:1", "fields-v1"):
        assert client.data.get(reference).version == 1
    with pytest.raises(NotFoundError, match=r"fields has the version\(s\) v1, v2"):
        client.data.get("fields:v3")
    with pytest.raises(NotFoundError, match="there is fields"):
        client.data.get("meadows")


def test_a_file_that_changes_during_the_push_is_an_error(
    client: Client, folder: Path, api_server: ApiServer
) -> None:
    path = folder / "train" / "chip0.tif"

    def change(stage: str, done: int, total: int) -> None:
        if stage == "hashing" and done == total:
            write_raster(path, np.full((2, 6, 6), 77, dtype=np.int16), bands=TIMES)

    with pytest.raises(FileChangedError, match=r"chip0\.tif changed while it was being uploaded"):
        client.data.push(folder, "fields", on_progress=change)
    assert client.data.list() == []
    result = client.data.push(folder, "fields")
    names = {file.sha256 for file in _files(client, result.item, folder.parent)}
    assert names <= blobs(api_server)


def test_a_file_that_vanishes_during_the_push_is_an_error(client: Client, folder: Path) -> None:
    def remove(stage: str, done: int, total: int) -> None:
        if stage == "hashing" and done == total:
            (folder / "test" / "chip2.tif").unlink()

    with pytest.raises(DatasetError, match=r"chip2\.tif cannot be read any more"):
        client.data.push(folder, "fields", on_progress=remove)
    assert client.data.list() == []


def test_an_unknown_workspace_gets_nothing(
    client: Client, folder: Path, api_server: ApiServer
) -> None:
    with pytest.raises(NotFoundError):
        client.data.push(folder, "fields", workspace="andes")
    assert blobs(api_server) == set()


def test_what_was_altered_in_the_store_is_not_pulled(
    client: Client, folder: Path, api_server: ApiServer, tmp_path: Path
) -> None:
    version = DatasetVersion.of(client.data.push(folder, "fields").item)
    (file, *_) = _files(client, version.item, tmp_path)
    key = f"alps/training-data/blobs/{file.sha256[:2]}/{file.sha256}"
    api_server.store.put_bytes(key, b"\0" * file.size)
    target = tmp_path / "data.tif"
    with pytest.raises(AssetError, match="is not what its Item says"):
        client.data.download_file(version, file, target)
    assert list(tmp_path.glob("*data.tif")) == []


def _files(client: Client, item, folder: Path):  # type: ignore[no-untyped-def]
    manifest = client.data.manifest(DatasetVersion.of(item), folder / "manifests")
    return [file for sample in manifest.samples for file in sample.files]
