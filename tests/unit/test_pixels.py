"""Reading samples: values, gaps, labels and dates as the rasters say them."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from mlops.datasets.pixels import (
    IGNORED,
    PixelDataError,
    check_alike,
    ignored_values,
    read_sample,
)
from tests.unit.training.conftest import write_raster

SERIES = np.array([[[1000, -10000]], [[5000, 2000]], [[-10000, 3000]]], dtype=np.int16)
LABELS = np.array([[[2, 0]]], dtype=np.uint8)


def test_a_scaled_series_is_physical_and_gaps_are_nan(tmp_path: Path) -> None:
    data = write_raster(tmp_path / "a.tif", SERIES, nodata=-10000, scale=1e-4)
    labels = write_raster(tmp_path / "b.tif", LABELS)

    sample = read_sample(data, labels, name="a")

    assert sample.series.shape == (2, 3, 1)
    assert sample.series.dtype == np.float32
    np.testing.assert_allclose(
        sample.series[:, :, 0], [[0.1, 0.5, np.nan], [np.nan, 0.2, 0.3]], rtol=1e-6
    )
    assert sample.labels is not None
    assert sample.labels.dtype == np.int64
    assert sample.labels.tolist() == [2, IGNORED]
    assert sample.scaled
    assert sample.shape == (1, 2)


def test_a_series_without_scale_keeps_its_numbers(tmp_path: Path) -> None:
    data = write_raster(tmp_path / "a.tif", SERIES, nodata=-10000)

    sample = read_sample(data, None, name="a")

    assert not sample.scaled
    assert sample.labels is None
    assert np.nanmax(sample.series) == 5000


def test_nan_and_infinity_in_a_float_series_are_gaps(tmp_path: Path) -> None:
    values = np.array([[[0.25]], [[np.nan]], [[np.inf]]], dtype=np.float32)
    sample = read_sample(write_raster(tmp_path / "a.tif", values), None, name="a")

    np.testing.assert_array_equal(sample.series[0, :, 0], [0.25, np.nan, np.nan])


def test_pixels_come_row_by_row(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.int16).reshape(2, 2, 3)
    labels = np.arange(1, 7, dtype=np.uint8).reshape(1, 2, 3)
    sample = read_sample(
        write_raster(tmp_path / "a.tif", values), write_raster(tmp_path / "b.tif", labels), name="a"
    )

    assert sample.series[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert sample.labels is not None
    assert sample.labels.tolist() == [1, 2, 3, 4, 5, 6]


def test_dates_are_the_descriptions_of_the_bands(tmp_path: Path) -> None:
    dates = ["2015-07-11T10:00:08", "2015-07-31T12:00:09+02:00", "2015-08-20"]
    dated = write_raster(tmp_path / "a.tif", SERIES, descriptions=dates)
    other = write_raster(tmp_path / "b.tif", SERIES, descriptions=["red", "green", "blue"])

    assert read_sample(dated, None, name="a").times == (
        datetime(2015, 7, 11, 10, 0, 8, tzinfo=UTC),
        datetime(2015, 7, 31, 10, 0, 9, tzinfo=UTC),
        datetime(2015, 8, 20, tzinfo=UTC),
    )
    assert read_sample(other, None, name="b").times == ()


@pytest.mark.parametrize(
    ("classes", "ignored"),
    [
        ([], {0}),
        ([{"value": 1, "name": "a"}], {0}),
        ([{"value": 255, "name": "none", "nodata": True}, {"value": 0, "name": "water"}], {255}),
        ([{"value": 0, "name": "none", "nodata": True}], {0}),
    ],
)
def test_zero_is_ignored_unless_it_is_a_class(
    classes: list[dict[str, object]], ignored: set[int]
) -> None:
    assert ignored_values(classes) == ignored


def test_the_nodata_value_of_the_labels_is_ignored(tmp_path: Path) -> None:
    data = write_raster(tmp_path / "a.tif", SERIES)
    labels = write_raster(tmp_path / "b.tif", LABELS, nodata=2)

    sample = read_sample(data, labels, name="a", ignored=())

    assert sample.labels is not None
    assert sample.labels.tolist() == [IGNORED, 0]


def test_labels_on_another_grid_are_refused(tmp_path: Path) -> None:
    data = write_raster(tmp_path / "a.tif", SERIES)
    larger = write_raster(tmp_path / "b.tif", np.ones((1, 2, 2), dtype=np.uint8))
    elsewhere = write_raster(tmp_path / "c.tif", LABELS, west=500010.0)

    with pytest.raises(PixelDataError, match="sample x: the series has 1 x 2 pixels"):
        read_sample(data, larger, name="x")
    with pytest.raises(PixelDataError, match="sample x: series and labels have other geotransform"):
        read_sample(data, elsewhere, name="x")


def test_labels_that_are_no_single_band_of_integers_are_refused(tmp_path: Path) -> None:
    data = write_raster(tmp_path / "a.tif", SERIES)
    with pytest.raises(PixelDataError, match=r"sample x must be one band of integers"):
        read_sample(data, data, name="x")
    floats = write_raster(tmp_path / "b.tif", LABELS.astype(np.float32))
    with pytest.raises(PixelDataError, match="band"):
        read_sample(data, floats, name="x")


def test_a_file_that_is_no_raster_names_the_sample(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"no raster")
    with pytest.raises(PixelDataError, match="sample x cannot be read"):
        read_sample(path, None, name="x")


def test_samples_with_other_dates_or_units_are_named(tmp_path: Path) -> None:
    first = read_sample(write_raster(tmp_path / "a.tif", SERIES, scale=1e-4), None, name="first")
    shorter = read_sample(
        write_raster(tmp_path / "b.tif", SERIES[:2], scale=1e-4), None, name="shorter"
    )
    raw = read_sample(write_raster(tmp_path / "c.tif", SERIES), None, name="raw")

    check_alike([first, first])
    with pytest.raises(PixelDataError, match="sample shorter has 2 dates, but sample first has 3"):
        check_alike([first, shorter])
    with pytest.raises(PixelDataError, match="sample raw has no scale, but sample first has"):
        check_alike([raw, first])
