"""The synthetic dataset: the same from the same seed, whole in each split, and says what it is."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from mlops.datasets.datacard import first_paragraph
from mlops.datasets.scan import ScannedDataset, scan
from mlops.datasets.synthetic import NODATA, SyntheticSpec, write_synthetic
from mlops.datasets.version import build_manifest, checksums, dataset_item, sample_paths


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("synthetic") / "chips"
    write_synthetic(made)
    return made


@pytest.fixture(scope="module")
def scanned(folder: Path) -> ScannedDataset:
    return scan(folder)


def digest(scanned: ScannedDataset) -> str:
    return build_manifest(scanned, checksums(sample_paths(scanned))).digest


def test_every_class_is_in_every_split(scanned: ScannedDataset) -> None:
    spec = SyntheticSpec()
    assert len(scanned.samples) == spec.chips
    assert len(scanned.classes.classes) >= 5
    for split in ("train", "validation", "test"):
        values = {value for s in scanned.samples if s.split == split for value in s.pixels}
        assert values == scanned.classes.values
    assert scanned.ignored == ()
    assert scanned.notes == ()


def test_chips_have_dates_clouds_and_a_place(scanned: ScannedDataset) -> None:
    sample = scanned.samples[0]
    assert (sample.interval.end - sample.interval.start).days > 300
    with rasterio.open(sample.data) as raster:
        assert raster.crs.to_epsg() == 32633
        assert raster.count == SyntheticSpec().dates
        assert set(raster.dtypes) == {"int16"}
        assert raster.scales[0] == 0.0001
        pixels = raster.read()
    hidden = float(np.mean(pixels == NODATA))
    assert 0.2 < hidden < 0.6
    places = {s.footprint.bbox for s in scanned.samples}
    assert len(places) == len(scanned.samples)


def test_the_seed_decides_everything(tmp_path: Path, scanned: ScannedDataset) -> None:
    write_synthetic(tmp_path / "again")
    assert digest(scan(tmp_path / "again")) == digest(scanned)
    small = SyntheticSpec(train=2, validation=1, test=1, seed=1)
    other = SyntheticSpec(train=2, validation=1, test=1, seed=2)
    write_synthetic(tmp_path / "one", small)
    write_synthetic(tmp_path / "two", other)
    assert digest(scan(tmp_path / "one")) != digest(scan(tmp_path / "two"))


def test_says_that_it_is_synthetic(folder: Path) -> None:
    assert (first_paragraph(folder / "README.md") or "").startswith("Synthetic data, made by code")


def test_a_folder_with_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(FileExistsError, match="is not empty"):
        write_synthetic(tmp_path)


def test_item_sums_up_the_samples(scanned: ScannedDataset) -> None:
    files = checksums(sample_paths(scanned))
    manifest = build_manifest(scanned, files)
    properties = dataset_item("landcover", scanned, manifest)["properties"]
    assert properties["mlops:samples"] == SyntheticSpec().chips
    assert properties["mlops:splits"]["train"]["samples"] == SyntheticSpec().train
    assert properties["mlops:size"] == sum(path.stat().st_size for path in files)
    counted = sum(entry["count"] for entry in properties["classification:classes"])
    assert counted == SyntheticSpec().chips * SyntheticSpec().size ** 2
    assert properties["mlops:manifest_digest"] == manifest.digest
    assert properties["datetime"] is None
    assert properties["start_datetime"] < properties["end_datetime"]
