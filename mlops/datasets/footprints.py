"""Footprints on the ground: a raster's outline in WGS 84, and the hull of many."""

from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Any

from mlops.datasets.manifest import BBox
from mlops.datasets.wkb import Geometry, Ring

# 1e-5 degrees are a metre on the ground.
_TOLERANCE = 1e-5
_DECIMALS = 7
_MOST_SEGMENTS = 64
_Position = tuple[float, float]

WORLD: Geometry = {
    "type": "Polygon",
    "coordinates": [
        [[-180.0, -90.0], [180.0, -90.0], [180.0, 90.0], [-180.0, 90.0], [-180.0, -90.0]]
    ],
}
"""The footprint of what has no place on Earth."""

WORLD_BBOX: BBox = (-180.0, -90.0, 180.0, 90.0)


@dataclass(frozen=True)
class Footprint:
    """An outline in WGS 84 (GeoJSON) and its bounding box."""

    geometry: Geometry
    bbox: BBox


def raster_footprint(crs: Any, transform: Any, width: int, height: int) -> Footprint:
    """The outline of a raster of ``width`` x ``height`` pixels.

    ``crs`` and ``transform`` are rasterio's; ValueError where the CRS has no place for it. Edges
    are divided until they follow the ground to a metre; an outline over the antimeridian becomes
    a MultiPolygon (RFC 7946, 3.1.9).
    """
    a, b, c, d, e, f = transform[:6]
    corners = [
        (a * column + b * row + c, d * column + e * row + f)
        for column, row in ((0, 0), (0, height), (width, height), (width, 0))
    ]
    segments = 1
    fine = _to_wgs84(crs, _divide(corners, 2))
    while segments < _MOST_SEGMENTS and not _is_straight(fine):
        segments *= 2
        fine = _to_wgs84(crs, _divide(corners, 2 * segments))
    return _footprint(_unwrap(fine[::2]))


def hull(footprints: list[Footprint]) -> Footprint:
    """The convex hull of footprints: of one, the footprint itself.

    A hull rather than a MultiPolygon of all: chips that touch make an invalid MultiPolygon, and
    an Item must stay small. The manifest holds every sample's own outline.
    """
    if len({str(footprint.geometry) for footprint in footprints}) == 1:
        return footprints[0]
    positions = {
        (position[0], position[1]) for f in footprints for position in _positions(f.geometry)
    }
    return _footprint(_convex(_from_widest_gap(positions)))


def _divide(corners: list[_Position], segments: int) -> list[_Position]:
    """The outline through ``corners``, each edge in ``segments`` parts; not closed."""
    points = []
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        for step in range(segments):
            share = step / segments
            points.append((x0 + (x1 - x0) * share, y0 + (y1 - y0) * share))
    return points


def _to_wgs84(crs: Any, points: list[_Position]) -> list[_Position]:
    from rasterio.warp import transform

    longitudes, latitudes = transform(
        crs, "EPSG:4326", [x for x, _ in points], [y for _, y in points]
    )
    points_on_earth = list(zip(longitudes, latitudes, strict=True))
    if not all(isfinite(x) and isfinite(y) for x, y in points_on_earth):
        raise ValueError("its outline lies outside the area of its coordinate reference system")
    return points_on_earth


def _is_straight(points: list[_Position]) -> bool:
    """Whether every odd point lies halfway between its neighbours."""
    unwrapped = _unwrap(points)
    count = len(unwrapped)
    for index in range(1, count, 2):
        (x0, y0), (x, y), (x1, y1) = (unwrapped[(index + step) % count] for step in (-1, 0, 1))
        bend = max(abs(_wrap((x0 + _near(x1, x0)) / 2 - x)), abs((y0 + y1) / 2 - y))
        if bend > _TOLERANCE:
            return False
    return True


def _wrap(longitude: float) -> float:
    return (longitude + 180.0) % 360.0 - 180.0


def _near(longitude: float, other: float) -> float:
    """``longitude`` in the turn in which it lies within 180 degrees of ``other``."""
    return other + _wrap(longitude - other)


def _unwrap(points: list[_Position]) -> list[_Position]:
    """Longitudes without jumps of 360 degrees from one point to the next."""
    unwrapped = [points[0]]
    for longitude, latitude in points[1:]:
        unwrapped.append((_near(longitude, unwrapped[-1][0]), latitude))
    return unwrapped


def _footprint(outline: list[_Position]) -> Footprint:
    """The footprint within an unwrapped outline."""
    if abs(_near(outline[0][0], outline[-1][0]) - outline[0][0]) > 180.0:
        return _around_pole(outline)
    west = min(x for x, _ in outline)
    shift = -360.0 * ((west + 180.0) // 360.0)
    outline = [(x + shift, y) for x, y in outline]
    west, east = west + shift, max(x for x, _ in outline)
    if east <= 180.0:
        return Footprint(
            {"type": "Polygon", "coordinates": [_ring(outline)]}, _bbox(_ring(outline))
        )
    here = _ring(_clip(outline, keep_west=True))
    beyond = _ring([(x - 360.0, y) for x, y in _clip(outline, keep_west=False)])
    west_box, east_box = _bbox(here), _bbox(beyond)
    south, north = min(west_box[1], east_box[1]), max(west_box[3], east_box[3])
    geometry = {"type": "MultiPolygon", "coordinates": [[here], [beyond]]}
    if east - west >= 360.0:
        return Footprint(geometry, (-180.0, south, 180.0, north))
    return Footprint(geometry, (west_box[0], south, east_box[2], north))


def _around_pole(outline: list[_Position]) -> Footprint:
    """All longitudes from the outline's lowest latitude to the pole that it goes around."""
    latitudes = [y for _, y in outline]
    low, high = (min(latitudes), 90.0) if max(latitudes) > 0 else (-90.0, max(latitudes))
    ring = _ring([(-180.0, low), (180.0, low), (180.0, high), (-180.0, high)])
    return Footprint({"type": "Polygon", "coordinates": [ring]}, _bbox(ring))


def _clip(outline: list[_Position], *, keep_west: bool) -> list[_Position]:
    """The part of an outline on one side of the 180th meridian (Sutherland and Hodgman 1974)."""
    kept: list[_Position] = []
    for (x0, y0), (x1, y1) in zip(outline, [*outline[1:], outline[0]], strict=True):
        inside0, inside1 = (x0 <= 180.0) == keep_west, (x1 <= 180.0) == keep_west
        if inside0:
            kept.append((x0, y0))
        if inside0 != inside1:
            kept.append((180.0, y0 + (y1 - y0) * (180.0 - x0) / (x1 - x0)))
    return kept


def _ring(outline: list[_Position]) -> Ring:
    """A closed GeoJSON ring, counter-clockwise."""
    area = sum(
        x0 * y1 - x1 * y0
        for (x0, y0), (x1, y1) in zip(outline, [*outline[1:], outline[0]], strict=True)
    )
    ordered = outline if area > 0 else outline[::-1]
    rounded = [[round(float(x), _DECIMALS), round(float(y), _DECIMALS)] for x, y in ordered]
    ring = [rounded[0], *(after for before, after in pairwise(rounded) if after != before)]
    return ring if len(ring) > 1 and ring[0] == ring[-1] else [*ring, ring[0]]


def _bbox(ring: Ring) -> BBox:
    longitudes, latitudes = [p[0] for p in ring], [p[1] for p in ring]
    return (min(longitudes), min(latitudes), max(longitudes), max(latitudes))


def _positions(geometry: Geometry) -> list[list[float]]:
    polygons = geometry["coordinates"]
    if geometry["type"] == "Polygon":
        polygons = [polygons]
    return [position for polygon in polygons for ring in polygon for position in ring]


def _from_widest_gap(positions: set[_Position]) -> list[_Position]:
    """Positions in one turn that begins after the widest gap in longitude."""
    longitudes = sorted({x for x, _ in positions})
    gaps = [(b - a, b) for a, b in pairwise(longitudes)]
    gaps.append((longitudes[0] + 360.0 - longitudes[-1], longitudes[0]))
    start = max(gaps)[1]
    return sorted((x if x >= start else x + 360.0, y) for x, y in positions)


def _convex(points: list[_Position]) -> list[_Position]:
    """The convex hull of sorted points (Andrew 1979, monotone chain)."""

    def half(ordered: list[_Position]) -> list[_Position]:
        chain: list[_Position] = []
        for x, y in ordered:
            while len(chain) > 1:
                (x0, y0), (x1, y1) = chain[-2:]
                if (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) > 0:
                    break
                chain.pop()
            chain.append((x, y))
        return chain[:-1]

    return half(points) + half(points[::-1])
