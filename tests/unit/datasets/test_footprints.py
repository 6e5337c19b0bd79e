"""Footprints: where rasters lie on the ground, and their binary form."""

import pytest
from rasterio import CRS
from rasterio.transform import from_origin
from shapely import from_wkb as shapely_from_wkb
from shapely.geometry import shape

from mlops.datasets.footprints import Footprint, hull, raster_footprint
from mlops.datasets.wkb import GeometryError, from_wkb, to_wkb


def test_small_chip_is_four_corners() -> None:
    found = raster_footprint(CRS.from_epsg(32633), from_origin(500_000, 5_100_000, 10, 10), 20, 20)
    ring = found.geometry["coordinates"][0]
    assert len(ring) == 5
    assert found.bbox == pytest.approx((15.0, 46.05177, 15.00259, 46.05357), abs=1e-4)
    assert shape(found.geometry).exterior.is_ccw


def test_edges_of_a_large_raster_follow_the_ground() -> None:
    # A 110 km tile far from the central meridian: its southern edge bends by far more than a pixel.
    transform = from_origin(300_000, 5_100_000, 10, 10)
    found = raster_footprint(CRS.from_epsg(32633), transform, 10_980, 10_980)
    outline = shape(found.geometry)
    middle = _ground((354_900, 4_990_200), 32633)
    assert outline.exterior.distance(middle) < 2e-5
    corners = [_ground((x, 4_990_200), 32633) for x in (300_000, 409_800)]
    straight = (corners[0].y + corners[1].y) / 2
    assert abs(middle.y - straight) > 1e-3


def test_antimeridian_makes_two_polygons() -> None:
    found = raster_footprint(
        CRS.from_epsg(32660), from_origin(680_000, 5_100_000, 100, 100), 1_098, 1_098
    )
    assert found.geometry["type"] == "MultiPolygon"
    west, _, east, _ = found.bbox
    assert west > 179
    assert east < -179
    for polygon in found.geometry["coordinates"]:
        longitudes = [x for x, _ in polygon[0]]
        assert max(longitudes) - min(longitudes) < 2
    assert shape(found.geometry).is_valid


def test_a_raster_over_the_pole_reaches_it() -> None:
    found = raster_footprint(
        CRS.from_epsg(3413), from_origin(-100_000, 100_000, 100, 100), 2_000, 2_000
    )
    assert found.bbox[0] == -180
    assert found.bbox[3] == 90
    assert 88 < found.bbox[1] < 90


def test_hull_holds_all_and_is_valid() -> None:
    chips = [
        raster_footprint(CRS.from_epsg(32633), from_origin(x, 5_100_000, 10, 10), 20, 20)
        for x in (500_000, 500_200, 510_000)
    ]
    around = shape(hull(chips).geometry)
    assert around.is_valid
    assert all(around.buffer(1e-9).contains(shape(chip.geometry)) for chip in chips)
    assert hull(chips[:1]) == chips[0]


def test_hull_over_the_antimeridian_stays_narrow() -> None:
    def box(west: float) -> Footprint:
        return raster_footprint(CRS.from_epsg(4326), from_origin(west, 10, 0.1, 0.1), 10, 10)

    west, _, east, _ = hull([box(178.0), box(-179.0)]).bbox
    assert (west, east) == (178.0, -178.0)


def test_wkb_is_what_others_read() -> None:
    geometry = {
        "type": "MultiPolygon",
        "coordinates": [
            [[[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 0.0]]],
            [[[5.0, 5.0], [6.0, 5.0], [6.0, 6.0], [5.0, 5.0]]],
        ],
    }
    encoded = to_wkb(geometry)
    assert shapely_from_wkb(encoded).equals(shape(geometry))
    assert from_wkb(encoded) == geometry


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x01\x03",
        to_wkb(
            _TRIANGLE := {
                "type": "Polygon",
                "coordinates": [[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]],
            }
        )[:-3],
    ],
)
def test_wkb_cut_short_is_an_error(content: bytes) -> None:
    with pytest.raises(GeometryError):
        from_wkb(content)


def _ground(position: tuple[float, float], epsg: int):  # type: ignore[no-untyped-def]
    from rasterio.warp import transform
    from shapely.geometry import Point

    (x,), (y,) = transform(CRS.from_epsg(epsg), "EPSG:4326", [position[0]], [position[1]])
    return Point(x, y)
