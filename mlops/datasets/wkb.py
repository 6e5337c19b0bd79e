"""Well-known binary of the two geometries that a footprint can be: Polygon and MultiPolygon.

OGC 06-103r4, section 8.2. Written little-endian; read in either byte order.
"""

import struct
from typing import Any

_POLYGON, _MULTIPOLYGON = 3, 6

Geometry = dict[str, Any]
"""GeoJSON Polygon or MultiPolygon, longitude and latitude in degrees."""

Ring = list[list[float]]
"""Positions ``[longitude, latitude]``; the first and the last are equal."""


class GeometryError(ValueError):
    """A geometry that is neither a Polygon nor a MultiPolygon, or is cut short."""


def to_wkb(geometry: Geometry) -> bytes:
    """Encode a GeoJSON Polygon or MultiPolygon.

    >>> square = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    >>> from_wkb(to_wkb(square))["coordinates"][0][2]
    [1.0, 1.0]
    """
    kind, coordinates = geometry["type"], geometry["coordinates"]
    if kind == "Polygon":
        return _write_polygon(coordinates)
    if kind == "MultiPolygon":
        head = struct.pack("<BII", 1, _MULTIPOLYGON, len(coordinates))
        return head + b"".join(_write_polygon(polygon) for polygon in coordinates)
    raise GeometryError(f"a footprint must be a Polygon or a MultiPolygon, not a {kind}")


def from_wkb(content: bytes) -> Geometry:
    """Decode a Polygon or MultiPolygon into GeoJSON."""
    try:
        order, kind = _head(content, 0)
        if kind == _POLYGON:
            return {"type": "Polygon", "coordinates": _read_polygon(content, 0)[0]}
        if kind == _MULTIPOLYGON:
            (count,) = struct.unpack_from(f"{order}I", content, 5)
            polygons, offset = [], 9
            for _ in range(count):
                polygon, offset = _read_polygon(content, offset)
                polygons.append(polygon)
            return {"type": "MultiPolygon", "coordinates": polygons}
    except struct.error as error:
        raise GeometryError(f"the geometry is cut short: {error}") from error
    raise GeometryError(f"a footprint must be a Polygon or a MultiPolygon, not WKB type {kind}")


def _write_polygon(rings: list[Ring]) -> bytes:
    parts = [struct.pack("<BII", 1, _POLYGON, len(rings))]
    for ring in rings:
        numbers = [number for position in ring for number in position[:2]]
        parts.append(struct.pack(f"<I{len(numbers)}d", len(ring), *numbers))
    return b"".join(parts)


def _read_polygon(content: bytes, offset: int) -> tuple[list[Ring], int]:
    order, kind = _head(content, offset)
    if kind != _POLYGON:
        raise GeometryError(f"a MultiPolygon must hold Polygons, not WKB type {kind}")
    (ring_count,) = struct.unpack_from(f"{order}I", content, offset + 5)
    offset += 9
    rings: list[Ring] = []
    for _ in range(ring_count):
        (length,) = struct.unpack_from(f"{order}I", content, offset)
        numbers = struct.unpack_from(f"{order}{2 * length}d", content, offset + 4)
        rings.append([list(pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)])
        offset += 4 + 16 * length
    return rings, offset


def _head(content: bytes, offset: int) -> tuple[str, int]:
    order = "<" if content[offset : offset + 1] == b"\x01" else ">"
    (kind,) = struct.unpack_from(f"{order}I", content, offset + 1)
    return order, kind
