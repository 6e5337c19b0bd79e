"""The manifest: stac-geoparquet that others read, and a digest that says what changed."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shapely import from_wkb

from mlops.datasets import DatasetError
from mlops.datasets.manifest import Manifest, ManifestFile, ManifestSample, read_manifest

CLASSES = [
    {"value": 2, "name": "water", "description": "water"},
    {"value": 1, "name": "forest", "description": "forest", "color_hint": "00FF00"},
]


def sample(sample_id: str = "a", **changes: object) -> ManifestSample:
    made = ManifestSample(
        id=sample_id,
        split="train",
        geometry={
            "type": "Polygon",
            "coordinates": [[[15.1, 46.0], [15.2, 46.0], [15.2, 46.1], [15.1, 46.0]]],
        },
        bbox=(15.1, 46.0, 15.2, 46.1),
        start=datetime(2020, 1, 1, 10, 0, 0, 123456, tzinfo=UTC),
        end=datetime(2020, 12, 31, tzinfo=UTC),
        classes=("forest",),
        data=ManifestFile("ab" * 32, 100, "image/tiff; application=geotiff", "train/a.tif"),
        labels=ManifestFile("cd" * 32, 10, "image/tiff; application=geotiff", "train/a_labels.tif"),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def manifest() -> Manifest:
    return Manifest.of([sample("b", labels=None, split="test"), sample("a")], CLASSES)


def test_written_and_read_back_is_the_same(manifest: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    manifest.write(path)
    assert read_manifest(path) == manifest
    assert read_manifest(path).digest == manifest.digest
    assert [entry.id for entry in manifest.of_split("test")] == ["b"]


def test_is_geoparquet_with_stac_columns(manifest: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    manifest.write(path)
    table = pq.read_table(path)
    geo = json.loads(table.schema.metadata[b"geo"])
    assert geo["primary_column"] == "geometry"
    assert geo["columns"]["geometry"]["geometry_types"] == ["Polygon"]
    row = table.to_pylist()[0]
    assert from_wkb(row["geometry"]).bounds == (15.1, 46.0, 15.2, 46.1)
    assert row["assets"]["data"] == {
        "href": f"../ab/{'ab' * 32}",
        "type": "image/tiff; application=geotiff",
        "roles": ["data"],
        "title": "train/a.tif",
        "file:size": 100,
        "file:checksum": f"1220{'ab' * 32}",
    }
    assert table.to_pylist()[1]["assets"]["labels"] is None
    assert row["datetime"] is None
    assert row["start_datetime"] == datetime(2020, 1, 1, 10, 0, 0, 123456, tzinfo=UTC)
    assert table.schema.field("start_datetime").type == pa.timestamp("us", tz="UTC")


def test_digest_does_not_depend_on_order(manifest: Manifest) -> None:
    other = Manifest.of(reversed(manifest.samples), reversed(manifest.classes))
    assert other.digest == manifest.digest


@pytest.mark.parametrize(
    "change",
    [
        {"split": "validation"},
        {"classes": ("water",)},
        {"bbox": (15.1, 46.0, 15.2, 46.2)},
        {"start": datetime(2020, 1, 1, 10, 0, 0, 123457, tzinfo=UTC)},
        {"labels": None},
        {"data": ManifestFile("ac" * 32, 100, "image/tiff; application=geotiff", "train/a.tif")},
    ],
)
def test_digest_tells_every_change(change: dict[str, object]) -> None:
    before = Manifest.of([sample()], CLASSES).digest
    assert Manifest.of([sample(**change)], CLASSES).digest != before


def test_digest_tells_a_change_of_classes() -> None:
    swapped = [{**CLASSES[0], "name": "forest"}, {**CLASSES[1], "name": "water"}]
    assert Manifest.of([sample()], swapped).digest != Manifest.of([sample()], CLASSES).digest


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("split", ["holdout"], "unknown split 'holdout'"),
        ("geometry", [b"\x01\x01"], "cannot be read"),
        ("id", None, "has no 'id'"),
    ],
)
def test_what_is_no_manifest_is_refused(
    tmp_path: Path, column: str, value: list[object] | None, said: str
) -> None:
    path = tmp_path / "manifest.parquet"
    Manifest.of([sample()], CLASSES).write(path)
    table = pq.read_table(path)
    index = table.column_names.index(column)
    table = table.remove_column(index)
    if value is not None:
        table = table.append_column(column, pa.array(value))
    pq.write_table(table, path)
    with pytest.raises(DatasetError, match=said):
        read_manifest(path)


@pytest.mark.parametrize(
    "href", ["../../secrets", f"../ab/{'cd' * 32}", f"https://other.example/{'ab' * 32}"]
)
def test_hrefs_stay_among_the_files(tmp_path: Path, href: str) -> None:
    path = tmp_path / "manifest.parquet"
    Manifest.of([sample()], CLASSES).write(path)
    table = pq.read_table(path)
    assets = table.column("assets").to_pylist()
    assets[0]["data"]["href"] = href
    kind = table.schema.field("assets").type
    table = table.set_column(
        table.column_names.index("assets"), "assets", pa.array(assets, type=kind)
    )
    pq.write_table(table, path)
    with pytest.raises(DatasetError, match="does not name a file by its checksum"):
        read_manifest(path)


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_manifest(path)
