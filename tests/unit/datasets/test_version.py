"""What is checked once the checksums are known."""

import shutil
from pathlib import Path

import pytest

from mlops.datasets import DatasetError
from mlops.datasets.scan import scan
from mlops.datasets.version import build_manifest, checksums, sample_paths
from tests.unit.datasets.rasters import write_pair


def test_same_bytes_in_two_splits_are_refused(tmp_path: Path) -> None:
    write_pair(tmp_path / "train", "a")
    for end in ("", "_labels"):
        (tmp_path / "test").mkdir(exist_ok=True)
        shutil.copy(tmp_path / "train" / f"a{end}.tif", tmp_path / "test" / f"b{end}.tif")
    scanned = scan(tmp_path)
    with pytest.raises(DatasetError, match=r"train/a.tif \(train\) and test/b.tif \(test\)"):
        build_manifest(scanned, checksums(sample_paths(scanned)))


def test_equal_labels_in_two_splits_are_fine(tmp_path: Path) -> None:
    write_pair(tmp_path / "train", "a", seed=1)
    write_pair(tmp_path / "test", "b", seed=2)
    scanned = scan(tmp_path)
    manifest = build_manifest(scanned, checksums(sample_paths(scanned)))
    assert len({sample.labels for sample in manifest.samples}) == 2
    assert len({s.labels.sha256 for s in manifest.samples if s.labels}) == 1
