"""Scanning folders: what is found, and what is said when something is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from rasterio.shutil import copy

from mlops.datasets import DatasetError
from mlops.datasets.classes import read_classes
from mlops.datasets.layout import Suffixes
from mlops.datasets.scan import scan
from mlops.datasets.times import parse_interval
from tests.unit.datasets.rasters import TIMES, write_pair, write_raster


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three splits with a sample each."""
    for seed, split in enumerate(("train", "validation", "test")):
        write_pair(tmp_path / split, f"chip{seed}", seed=seed)
    return tmp_path


def problems(folder: Path, **options: object) -> list[str]:
    with pytest.raises(DatasetError) as caught:
        scan(folder, **options)  # type: ignore[arg-type]
    return caught.value.problems


def test_reads_footprints_times_and_classes(folder: Path) -> None:
    found = scan(folder)
    assert [(s.id, s.split) for s in found.samples] == [
        ("chip0", "train"),
        ("chip1", "validation"),
        ("chip2", "test"),
    ]
    sample = found.samples[0]
    assert sample.footprint.bbox == pytest.approx((15.0, 46.053, 15.0008, 46.0536), abs=1e-3)
    assert sample.interval.start.isoformat() == "2020-03-01T10:00:00+00:00"
    assert sample.interval.end.isoformat() == "2020-06-01T10:00:00+00:00"
    assert sample.pixels == {1: 12, 2: 12, 3: 12}
    assert found.pixels == {1: 36, 2: 36, 3: 36}
    assert [entry.name for entry in found.classes.classes] == ["class-1", "class-2", "class-3"]
    assert not found.non_spatial
    assert found.notes == ()


@pytest.mark.parametrize("alias", ["val", "valid", "validate", "Validation"])
def test_split_aliases(folder: Path, alias: str) -> None:
    (folder / "validation").rename(folder / alias)
    assert scan(folder).samples[1].split == "validation"


def test_suffixes_can_be_chosen(tmp_path: Path) -> None:
    write_pair(tmp_path / "train", "a")
    (tmp_path / "train" / "a.tif").rename(tmp_path / "train" / "a_ndvi.tif")
    (tmp_path / "train" / "a_labels.tif").rename(tmp_path / "train" / "a_lulc.tif")
    found = scan(tmp_path, Suffixes.of(["_ndvi.tif"], ["_lulc"]))
    assert [sample.id for sample in found.samples] == ["a"]
    (problem,) = problems(tmp_path)
    assert "--label-suffix" in problem


def test_classes_file_names_the_values(folder: Path) -> None:
    entries = [
        {"value": 1, "name": "forest", "color_hint": "00ff00"},
        {"value": 2, "name": "water", "description": "Lakes and rivers"},
        {"value": 3, "name": "clouds", "nodata": True},
    ]
    (folder / "classes.json").write_text(json.dumps(entries))
    found = scan(folder)
    assert found.classes.names_of({1, 2, 3}) == ("forest", "water")
    assert found.classes.classes[0].to_stac() == {
        "value": 1,
        "name": "forest",
        "description": "forest",
        "color_hint": "00FF00",
    }


def test_value_without_class_is_named_with_its_file(folder: Path) -> None:
    (folder / "classes.json").write_text(json.dumps([{"value": 1, "name": "forest"}]))
    found = problems(folder)
    assert len(found) == 3
    assert "test/chip2_labels.tif holds the value(s) 2, 3" in "\n".join(found)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[{", "classes.json: the file"),
        ('[{"value": 1, "name": "??"}]', "classes.json: 0/name"),
        ('[{"value": 1, "name": "a"}, {"value": 1, "name": "b"}]', "value 1 occurs twice"),
    ],
)
def test_bad_classes_file(folder: Path, content: str, said: str) -> None:
    (folder / "classes.json").write_text(content)
    assert said in problems(folder)[0]


def test_label_nodata_is_no_class(tmp_path: Path) -> None:
    write_pair(tmp_path / "train", "a")
    labels = np.array([[[0, 0, 1, 1, 2, 2]] * 6], dtype=np.uint8)
    write_raster(tmp_path / "train" / "a_labels.tif", labels, nodata=0)
    found = scan(tmp_path)
    assert found.classes.names_of({0, 1, 2}) == ("class-1", "class-2")


def test_table_names_samples(tmp_path: Path) -> None:
    write_pair(tmp_path / "images", "one")
    write_pair(tmp_path / "images", "two", seed=1)
    (tmp_path / "samples.csv").write_text(
        "id,data,labels,split,datetime\n"
        "first,images/one.tif,images/one_labels.tif,train,\n"
        ",images/two.tif,,val,2021-05-01/2021-05-31\n"
    )
    found = scan(tmp_path)
    assert [(s.id, s.split) for s in found.samples] == [
        ("first", "train"),
        ("images-two", "validation"),
    ]
    assert found.samples[1].labels is None
    assert found.samples[1].interval.end.isoformat() == "2021-05-31T23:59:59+00:00"
    assert [entry.path for entry in found.ignored] == ["images/two_labels.tif"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("images/no.tif,,train", "line 2: there is no file images/no.tif"),
        ("../outside.tif,,train", "line 2: ../outside.tif lies outside"),
        ("images/one.tif,,holdout", "line 2: unknown split 'holdout'"),
        (",,train", "line 2: the column data is empty"),
    ],
)
def test_bad_rows_of_the_table(tmp_path: Path, row: str, said: str) -> None:
    write_pair(tmp_path / "images", "one")
    (tmp_path / "samples.csv").write_text(f"data,labels,split\n{row}\n")
    assert said in problems(tmp_path)[0]


def test_unknown_columns_of_the_table(tmp_path: Path) -> None:
    (tmp_path / "samples.csv").write_text("data,labels,split,when\n")
    assert "unknown column(s) when" in problems(tmp_path)[0]


def test_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path)
    assert "samples.csv" in problem
    (problem,) = problems(tmp_path / "nowhere")
    assert "is no folder" in problem


def test_missing_labels_and_missing_data_are_named(folder: Path) -> None:
    (folder / "train" / "chip0_labels.tif").unlink()
    (folder / "test" / "chip2.tif").unlink()
    text = "\n".join(problems(folder))
    assert "train/chip0.tif has no labels: there is no chip0_labels.tif" in text
    assert "test/chip2_labels.tif has no data" in text


def test_unknown_split_and_stray_files_are_named(folder: Path) -> None:
    write_pair(folder / "holdout", "x", seed=9)
    write_pair(folder, "stray", seed=8)
    text = "\n".join(problems(folder))
    assert "holdout/ is no split" in text
    assert "stray.tif lies in no split" in text


def test_same_sample_in_two_splits(folder: Path) -> None:
    write_pair(folder / "test", "chip0", seed=5)
    (problem,) = problems(folder)
    assert "'chip0' is in two splits, test and train" in problem


def test_unreadable_file_is_named(folder: Path) -> None:
    (folder / "train" / "chip0.tif").write_bytes(b"no raster")
    (problem,) = problems(folder)
    assert problem.startswith("train/chip0.tif: cannot be read as a raster")


def test_file_cut_short_is_named(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 9000, (2, 300, 300)).astype(np.int16)
    plain = write_raster(tmp_path / "plain.tif", pixels, bands=TIMES)
    train = tmp_path / "dataset" / "train"
    write_raster(train / "a_labels.tif", np.ones((1, 300, 300), dtype=np.uint8))
    # The directory of a COG lies before its pixels: opening one that was cut short still works.
    copy(plain, train / "a.tif", driver="COG")
    whole = (train / "a.tif").read_bytes()
    (train / "a.tif").write_bytes(whole[: len(whole) // 2])
    (problem,) = problems(tmp_path / "dataset")
    assert problem.startswith("train/a.tif: its pixels cannot be read")


def test_labels_on_another_grid(folder: Path) -> None:
    write_raster(folder / "train" / "chip0_labels.tif", np.ones((1, 5, 6), dtype=np.uint8))
    (problem,) = problems(folder)
    assert "train/chip0_labels.tif: labels must lie on the grid" in problem


def test_labels_must_be_one_band_of_integers(folder: Path) -> None:
    write_raster(folder / "train" / "chip0_labels.tif", np.ones((1, 6, 6), dtype=np.float32))
    (problem,) = problems(folder)
    assert "one band of integers, not 1 bands of float32" in problem


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_no_crs_at_all_is_non_spatial(tmp_path: Path) -> None:
    for name, pixels in (("a", np.zeros((2, 6, 6), np.int16)), ("a_labels", np.ones((1, 6, 6)))):
        bands = ("2020-01-01", "2020-02-01") if name == "a" else None
        write_raster(
            tmp_path / "train" / f"{name}.tif",
            pixels.astype(np.uint8) if bands is None else pixels,
            crs=None,
            bands=bands,
        )
    found = scan(tmp_path)
    assert found.non_spatial
    assert "non-spatial" in found.notes[0]
    assert found.samples[0].footprint.bbox == (-180, -90, 180, 90)


def test_one_file_without_crs_is_an_error(folder: Path) -> None:
    pixels = np.zeros((2, 6, 6), np.int16)
    write_raster(
        folder / "train" / "chip0.tif", pixels, crs=None, bands=("2020-01-01", "2020-02-01")
    )
    (problem,) = problems(folder)
    assert problem.startswith("train/chip0.tif has no CRS")


def test_time_of_the_tag_and_of_the_caller(tmp_path: Path) -> None:
    write_pair(tmp_path / "train", "a")
    pixels = np.zeros((2, 6, 6), np.int16)
    data = tmp_path / "train" / "a.tif"
    write_raster(data, pixels, tags={"TIFFTAG_DATETIME": "2019:07:01 09:30:00"})
    (sample,) = scan(tmp_path).samples
    assert sample.interval.start.isoformat() == "2019-07-01T09:30:00+00:00"
    write_raster(data, pixels, bands=("B02", "B03"))
    (problem,) = problems(tmp_path)
    assert "train/a.tif do not say their time" in problem
    (sample,) = scan(tmp_path, interval=parse_interval("2020-01-01/2020-12-31")).samples
    assert sample.interval.end.isoformat() == "2020-12-31T23:59:59+00:00"


def test_ignored_files_are_listed(folder: Path) -> None:
    (folder / ".DS_Store").touch()
    (folder / "notes.txt").touch()
    (folder / "train" / "chip0.tif.aux.xml").touch()
    (folder / "README.md").write_text("About these chips.")
    found = scan(folder)
    assert {entry.path: entry.reason for entry in found.ignored} == {
        ".DS_Store": "hidden",
        "notes.txt": "no raster",
        "train/chip0.tif.aux.xml": "no GeoTIFF",
    }
    assert found.datacard == folder / "README.md"


def test_real_chips(tmp_path: Path, shared_data: Path) -> None:
    (tmp_path / "train").symlink_to(shared_data / "chips")
    found = scan(tmp_path, Suffixes.of(["_ndvi"], ["_lulc"]))
    assert len(found.samples) == 25
    assert found.samples[0].interval.start.isoformat() == "2015-07-11T10:00:08+00:00"
    assert sum(found.pixels.values()) == 25 * 400
    assert len(found.common_bands or ()) == 68


def test_a_class_may_have_a_name_of_several_words(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text('[{"value": 1, "name": "Cultivated land"}]')
    table = read_classes(tmp_path)
    assert table is not None
    assert (table.classes[0].name, table.classes[0].description) == (
        "Cultivated-land",
        "Cultivated land",
    )
