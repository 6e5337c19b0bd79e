"""GeoJSON geometries (RFC 7946): footprints with their bounding boxes, and shapes of searches."""

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

from stac_api.documents import Document
from stac_api.problems import Fault, pointer

# How many arrays lie around a position.
_NESTING = {
    "Point": 0,
    "MultiPoint": 1,
    "LineString": 1,
    "MultiLineString": 2,
    "Polygon": 2,
    "MultiPolygon": 3,
}
_COLLECTION = "GeometryCollection"
# RFC 7946 advises against any nesting of them, and PostGIS reads JSON of 32 levels.
_MAX_COLLECTIONS = 8
_TOLERANCE = 1e-6
# PostGIS reads every coordinate as a double, and writes larger ones as other numbers.
_MAX_HEIGHT = 2**53

Position = list[float]


def check_geometry(item: Document) -> list[Fault]:
    """The faults of an item's geometry and of its bounding box."""
    geometry = item.get("geometry")
    if geometry is None:
        return [Fault("/geometry", "is needed: the record keeps no item without a footprint")]
    faults = [Fault(f"/geometry{f.pointer}", f.detail) for f in islice(_faults(geometry), 20)]
    return faults or list(_check_bbox(item.get("bbox"), geometry))


def contradicts(bbox: Any, geometry: Any) -> bool:
    """Whether a box is not that of a geometry, which is valid itself."""
    return not any(_faults(geometry)) and any(_check_bbox(bbox, geometry))


def bbox_of(geometry: Document) -> list[float]:
    """The bounding box of a valid geometry: west, south, east, north in degrees.

    Parts on both sides of the antimeridian do not make a box that crosses it: only whoever made
    them knows whether they belong together.
    """
    positions = [p for line in _lines(geometry) for p in line]
    xs, ys = [p[0] for p in positions], [p[1] for p in positions]
    return [min(xs), min(ys), max(xs), max(ys)]


def faults_of_shape(geometry: Any) -> Iterator[Fault]:
    """The faults of a geometry that a search asks about; pointers lead from the geometry on.

    A GeometryCollection is one as well. What stands beside type and coordinates says nothing.
    """
    sizes: set[int] = set()
    yield from _shape_faults(geometry, (), sizes, 0)
    yield from _check_sizes(sizes, "")


def bare(geometry: Document) -> Document:
    """A geometry that has no faults, with nothing but its type and coordinates."""
    if geometry["type"] == _COLLECTION:
        return {"type": _COLLECTION, "geometries": [bare(part) for part in geometry["geometries"]]}
    return {"type": geometry["type"], "coordinates": geometry["coordinates"]}


def _faults(geometry: Any) -> Iterator[Fault]:
    """The faults of a footprint; pointers lead from the geometry on."""
    sizes: set[int] = set()
    if isinstance(geometry, dict):
        for name in geometry.keys() - {"type", "coordinates"}:
            yield Fault(pointer(name), "is no member of a geometry: leave it out")
    yield from _check_coordinates(geometry, (), sizes)
    yield from _check_sizes(sizes, "/coordinates")


def _shape_faults(
    geometry: Any, place: tuple[object, ...], sizes: set[int], depth: int
) -> Iterator[Fault]:
    if not isinstance(geometry, dict) or geometry.get("type") != _COLLECTION:
        yield from _check_coordinates(geometry, place, sizes)
        return
    parts = geometry.get("geometries")
    if depth == _MAX_COLLECTIONS:
        yield Fault(pointer(*place), f"is nested deeper than {_MAX_COLLECTIONS} collections")
    elif not isinstance(parts, list) or not parts:
        yield Fault(pointer(*place, "geometries"), "must be an array that is not empty")
    else:
        for index, part in enumerate(parts):
            yield from _shape_faults(part, (*place, "geometries", index), sizes, depth + 1)


def _check_coordinates(
    geometry: Any, place: tuple[object, ...], sizes: set[int]
) -> Iterator[Fault]:
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if not isinstance(kind, str) or kind not in _NESTING:
        yield Fault(pointer(*place, "type"), f"must be one of {', '.join(_NESTING)}")
        return
    coordinates = geometry.get("coordinates")
    yield from _check_nested(coordinates, (*place, "coordinates"), _NESTING[kind], kind, sizes)


def _check_sizes(sizes: set[int], where: str) -> Iterator[Fault]:
    if len(sizes) > 1:
        yield Fault(where, "mixes positions with and without a height")


def _check_nested(
    value: Any, place: tuple[object, ...], nesting: int, kind: str, sizes: set[int]
) -> Iterator[Fault]:
    if nesting == 0:
        yield from _check_position(value, place, sizes)
        return
    if not isinstance(value, list) or not value:
        yield Fault(pointer(*place), "must be an array that is not empty")
        return
    for index, inner in enumerate(value):
        yield from _check_nested(inner, (*place, index), nesting - 1, kind, sizes)
    if nesting > 1:
        return
    if kind in ("Polygon", "MultiPolygon"):
        if len(value) < 4 or value[0] != value[-1]:
            yield Fault(pointer(*place), "must be a closed ring of at least 4 positions")
    elif kind in ("LineString", "MultiLineString") and len(value) < 2:
        yield Fault(pointer(*place), "must have at least 2 positions")


def _check_position(value: Any, place: tuple[object, ...], sizes: set[int]) -> Iterator[Fault]:
    if not isinstance(value, list) or len(value) not in (2, 3) or not all(map(_is_number, value)):
        yield Fault(pointer(*place), "must be longitude, latitude and perhaps a height in metres")
        return
    sizes.add(len(value))
    if not (-180 <= value[0] <= 180 and -90 <= value[1] <= 90):
        yield Fault(pointer(*place), "must be longitude and latitude in degrees (WGS 84)")
    if not all(-_MAX_HEIGHT <= height <= _MAX_HEIGHT for height in value[2:]):
        yield Fault(pointer(*place, 2), "must be a height that a double keeps exactly")


def _is_number(value: Any) -> bool:
    return type(value) is float or type(value) is int


def _lines(geometry: Document) -> list[list[Position]]:
    """The positions of a geometry, line by line."""
    nested: list[Any] = [geometry["coordinates"]]
    for _ in range(_NESTING[geometry["type"]] - 1):
        nested = [inner for outer in nested for inner in outer]
    if geometry["type"] == "Point":
        nested = [nested]
    elif geometry["type"] == "MultiPoint":
        nested = [[position] for position in nested[0]]
    return nested


def _check_bbox(bbox: Any, geometry: Document) -> Iterator[Fault]:
    if not isinstance(bbox, list) or len(bbox) not in (4, 6):
        yield Fault("/bbox", "must be an array of 4 or 6 numbers")
        return
    if not all(_is_number(n) and math.isfinite(n) for n in bbox):
        yield Fault("/bbox", "must hold numbers")
        return
    half = len(bbox) // 2
    west, south, east, north = bbox[0], bbox[1], bbox[half], bbox[half + 1]
    lines = _lines(geometry)
    if west > east:
        actual = _bounds_across(lines, west, east)
        if actual is None:
            detail = (
                "crosses the antimeridian, but the geometry is not cut there as RFC 7946 asks: "
                "split it at 180 degrees, or give west < east"
            )
            yield Fault("/bbox", detail)
            return
    else:
        actual = bbox_of(geometry)
    if not _agree([west, south, east, north], actual):
        yield Fault("/bbox", f"contradicts the geometry, whose bounds are {actual}")
    elif half == 3:
        heights = [p[2] for line in lines for p in line if len(p) == 3]
        if bbox[2] > bbox[5]:
            yield Fault("/bbox/2", "is above the upper height")
        elif heights and not _agree([bbox[2], bbox[5]], [min(heights), max(heights)]):
            detail = f"contradicts the geometry's heights, {min(heights)} to {max(heights)}"
            yield Fault("/bbox", detail)


def _bounds_across(lines: list[list[Position]], west: float, east: float) -> list[float] | None:
    """The bounds of lines that lie on either side of the antimeridian; None if one crosses."""
    eastern, western = [], []
    for line in lines:
        if all(p[0] >= west - _TOLERANCE for p in line):
            eastern += line
        elif all(p[0] <= east + _TOLERANCE for p in line):
            western += line
        else:
            return None
    if not eastern or not western:
        return None
    ys = [p[1] for p in eastern + western]
    return [min(p[0] for p in eastern), min(ys), max(p[0] for p in western), max(ys)]


def _agree(given: list[float], actual: list[float]) -> bool:
    return all(abs(a - b) <= _TOLERANCE for a, b in zip(given, actual, strict=True))
