"""Staging: every file is checked, and each channel gets what belongs to it."""

import hashlib
from pathlib import Path
from threading import Event

import pyarrow.parquet as pq
import pytest

from mlops.storage import keys
from mlops.storage.folder import FolderStore
from tests.unit.training.conftest import CLASSES, Chip, store_dataset, write_chip
from training.contract import WorkFolders
from training.staging import BadInputError, StoppedError, merged_classes, stage


@pytest.fixture
def folders(tmp_path: Path) -> WorkFolders:
    return WorkFolders(tmp_path / "work")


def _blob_of(store: FolderStore, path: Path) -> Path:
    return store.path(keys.blob("alps", hashlib.sha256(path.read_bytes()).hexdigest()))


def test_each_channel_holds_the_files_of_its_split(
    store: FolderStore, chips: list[Chip], folders: WorkFolders
) -> None:
    staged = stage(store, [store_dataset(store, chips)], folders, Event())

    assert staged.channels == ("train", "validation", "test")
    assert staged.files == 8
    for chip in chips:
        place = folders.channel(chip.split) / "fields-v1" / chip.id
        assert (place / chip.data.name).read_bytes() == chip.data.read_bytes()
    rows = pq.read_table(folders.manifest).to_pylist()
    assert [row["id"] for row in rows] == ["chip-0", "chip-1", "chip-2", "chip-3"]
    assert all(Path(row["data"]).is_file() and Path(row["labels"]).is_file() for row in rows)


def test_an_altered_file_is_refused_by_name_and_sample(
    store: FolderStore, chips: list[Chip], folders: WorkFolders
) -> None:
    dataset = store_dataset(store, chips)
    blob = _blob_of(store, chips[2].data)
    content = bytearray(blob.read_bytes())
    content[100] ^= 1
    blob.write_bytes(content)

    with pytest.raises(BadInputError, match=r"chip-2_ndvi\.tif of sample chip-2 .* was altered"):
        stage(store, [dataset], folders, Event())
    assert not folders.manifest.exists()


def test_a_missing_file_is_refused_by_name_and_sample(
    store: FolderStore, chips: list[Chip], folders: WorkFolders
) -> None:
    dataset = store_dataset(store, chips)
    _blob_of(store, chips[0].data).unlink()

    with pytest.raises(BadInputError, match=r"chip-0_ndvi\.tif of sample chip-0 .* is missing"):
        stage(store, [dataset], folders, Event())


def test_an_altered_manifest_is_refused(
    store: FolderStore, chips: list[Chip], folders: WorkFolders
) -> None:
    dataset = store_dataset(store, chips)
    other = store_dataset(store, chips[:1])
    store.copy(other.manifest_key, dataset.manifest_key)

    with pytest.raises(BadInputError, match="manifest of dataset fields-v1 was altered"):
        stage(store, [dataset], folders, Event())


def test_what_is_no_manifest_is_refused(
    store: FolderStore, chips: list[Chip], folders: WorkFolders
) -> None:
    content = b"not Parquet"
    sha256 = hashlib.sha256(content).hexdigest()
    store.put_bytes(keys.blob("alps", sha256), content)
    dataset = store_dataset(store, chips).model_copy(
        update={"manifest_key": keys.blob("alps", sha256), "manifest_sha256": sha256}
    )

    with pytest.raises(BadInputError, match="fields-v1: the manifest"):
        stage(store, [dataset], folders, Event())


def test_a_single_link_with_a_split_brings_the_other_splits_too(
    store: FolderStore, chips: list[Chip], folders: WorkFolders
) -> None:
    dataset = store_dataset(store, chips, split="train")

    staged = stage(store, [dataset], folders, Event())

    assert staged.channels == ("train", "validation", "test")


def test_a_dataset_linked_once_for_each_split_gives_each_sample_once(
    store: FolderStore, chips: list[Chip], folders: WorkFolders
) -> None:
    links = [store_dataset(store, chips, split=split) for split in ("train", "validation")]

    staged = stage(store, links, folders, Event())

    found = [sample.entry.id for split in staged.channels for sample in staged.samples[split]]
    assert sorted(found) == sorted(chip.id for chip in chips)


def test_channels_that_no_link_names_come_from_the_other_datasets(
    store: FolderStore, chips: list[Chip], folders: WorkFolders, tmp_path: Path
) -> None:
    more = [write_chip(tmp_path / "more", "chip-0", "train", seed=9)]
    named = store_dataset(store, more, item="more-v1", split="train")
    whole = store_dataset(store, chips, item="fields-v1")

    staged = stage(store, [whole, named], folders, Event())

    found = {
        split: [(sample.dataset, sample.entry.id) for sample in staged.samples[split]]
        for split in staged.channels
    }
    assert found == {
        "train": [("more-v1", "chip-0")],
        "validation": [("fields-v1", "chip-2")],
        "test": [("fields-v1", "chip-3")],
    }


def test_no_training_samples_is_said(
    store: FolderStore, chips: list[Chip], folders: WorkFolders
) -> None:
    with pytest.raises(BadInputError, match="no training samples in fields-v1"):
        stage(store, [store_dataset(store, chips[2:])], folders, Event())


def test_equal_files_of_two_samples_are_staged_for_both(
    store: FolderStore, folders: WorkFolders, tmp_path: Path
) -> None:
    first = write_chip(tmp_path, "a", "train", seed=1)
    twin = Chip("b", "validation", first.data, first.labels)

    staged = stage(store, [store_dataset(store, [first, twin])], folders, Event())

    assert staged.files == 2
    assert (folders.channel("validation") / "fields-v1" / "b" / "a_ndvi.tif").is_file()


def test_names_from_outside_stay_inside_the_channel(
    store: FolderStore, folders: WorkFolders, tmp_path: Path
) -> None:
    chip = write_chip(tmp_path, "a", "train", seed=1)
    hostile = Chip("../../../escaped", "train", chip.data, chip.labels)

    stage(store, [store_dataset(store, [hostile])], folders, Event())

    row = pq.read_table(folders.manifest).to_pylist()[0]
    assert Path(row["data"]).resolve().is_relative_to(folders.channel("train"))


def test_staging_ends_when_the_job_is_stopped(
    store: FolderStore, chips: list[Chip], folders: WorkFolders
) -> None:
    stopping = Event()
    stopping.set()

    with pytest.raises(StoppedError):
        stage(store, [store_dataset(store, chips)], folders, stopping)


def test_datasets_that_name_a_value_differently_are_refused(
    store: FolderStore, chips: list[Chip]
) -> None:
    one = store_dataset(store, chips, item="one-v1")
    other = store_dataset(
        store, chips, item="other-v1", classes=[*CLASSES[:2], {"value": 3, "name": "grass"}]
    )

    assert merged_classes([one, one]) == CLASSES
    with pytest.raises(BadInputError, match="value 3 is 'Bare soil' in one-v1 but 'grass'"):
        merged_classes([one, other])
