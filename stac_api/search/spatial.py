"""Geometries and boxes of a request, as SQL."""

import math
from typing import Any

from stac_api.geometry import bare, faults_of_shape
from stac_api.problems import Fault, Problem
from stac_api.search.statement import Arguments


def geometry(arguments: Arguments, value: Any, place: str) -> str:
    """The SQL of a GeoJSON geometry in degrees (WGS 84); 400 when it is none."""
    fault = next(faults_of_shape(value), None)
    if fault is not None:
        detail = f"is not valid{fault.pointer and f' at {fault.pointer}'}: {fault.detail}"
        raise Problem(400, f"The geometry {detail}.", [Fault(place, detail)])
    # Nothing else of it: PostGIS fails on some that it would read, such as an empty "crs".
    text = arguments.json(bare(value)).removesuffix("::jsonb")
    # Of a polygon that crosses itself what it covers is asked for: some relations cannot be
    # computed for itself.
    shape = f"public.ST_SetSRID(public.ST_GeomFromGeoJSON({text}), 4326)"
    return f"mlops.wanted_shape({shape}, {arguments.add(place, 'text')})"


def related(relation: str, a: str, b: str) -> str:
    """The condition that two geometries lie to each other so, also where one crosses itself."""
    exactly = f"mlops.relate('{relation}', {a}, {b})"
    # An index is asked for boxes.
    if relation == "s_disjoint":
        return f"(NOT {a} OPERATOR(public.&&) {b} OR {exactly})"
    return f"({a} OPERATOR(public.&&) {b} AND {exactly})"


def envelope(arguments: Arguments, bbox: Any, place: str) -> str:
    """The SQL of a box, 2D or 3D, also one that crosses the antimeridian; 400 when it is none."""
    if (
        not isinstance(bbox, list)
        or len(bbox) not in (4, 6)
        or not all(_is_number(n) for n in bbox)
    ):
        raise Problem(400, "A bbox is 4 or 6 numbers.", [Fault(place, "must be 4 or 6 numbers")])
    half = len(bbox) // 2
    west, south, east, north = bbox[0], bbox[1], bbox[half], bbox[half + 1]
    if south > north or not all(abs(x) <= 180 for x in (west, east)) or max(-south, north) > 90:
        detail = "must be west, south, east, north in degrees, south below north"
        raise Problem(400, f"The bbox {detail}.", [Fault(place, detail)])
    if half == 3 and bbox[2] > bbox[5]:
        detail = "must have its lower height before its upper one"
        raise Problem(400, f"The bbox {detail}.", [Fault(place, detail)])
    if west <= east:
        return _box(arguments, west, south, east, north)
    parts = (
        _box(arguments, west, south, 180, north),
        _box(arguments, -180, south, east, north),
    )
    return f"public.ST_Collect({', '.join(parts)})"


def _box(arguments: Arguments, *bounds: float) -> str:
    numbers = ", ".join(arguments.add(float(n), "float8") for n in bounds)
    # A box without width or height is a line or a point: as a polygon it would meet nothing.
    return f"public.ST_Envelope(public.ST_MakeEnvelope({numbers}, 4326))"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
