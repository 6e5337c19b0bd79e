"""What every item and collection must be before it is stored, whatever its kind."""

import math
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from geojson_pydantic.geometries import parse_geometry_obj
from pydantic import ValidationError

from mlops.items.extension import STAC_VERSION
from mlops.items.ids import InvalidIdError, check_id
from stac_api.documents import Document
from stac_api.hrefs import hrefs_of
from stac_api.problems import Fault, invalid, pointer

_SCHEMES = frozenset({"", "http", "https", "s3", "gs", "az", "abfs", "oci", "ftp", "docker"})
_RFC3339 = re.compile(
    r"\A\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})\Z", re.ASCII
)


def check_item(item: Document) -> None:
    """Raise a 422 problem that names every fault of an item that is about to be stored."""
    faults = [
        *_check_identity(item, "Feature"),
        *_check_geometry(item),
        *_check_properties(item.get("properties")),
        *_check_links(item),
        *_check_assets(item),
        *_check_hrefs(item),
    ]
    if faults:
        raise invalid("The item is not a valid STAC Item.", *faults)


def check_collection(collection: Document) -> None:
    """Raise a 422 problem that names every fault of a collection that is about to be stored."""
    faults = [
        *_check_identity(collection, "Collection"),
        *_check_extent(collection.get("extent")),
        *_check_links(collection),
        *_check_hrefs(collection),
    ]
    for field in ("description", "license"):
        if not isinstance(collection.get(field), str) or not collection[field]:
            faults.append(Fault(pointer(field), "must be a text that is not empty"))
    if faults:
        raise invalid("The collection is not a valid STAC Collection.", *faults)


def parse_time(value: object) -> datetime:
    """An RFC 3339 time; ValueError says what is wrong with it."""
    if not isinstance(value, str) or not _RFC3339.match(value):
        raise ValueError("must be an RFC 3339 time with a zone, such as 2026-11-23T10:00:00Z")
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"is not a time: {error}") from error


def bbox_of(geometry: Document) -> list[float]:
    """The bounding box of a GeoJSON geometry: west, south, east, north in degrees."""
    xs, ys = zip(*_positions(geometry), strict=True)
    return [min(xs), min(ys), max(xs), max(ys)]


def _check_identity(document: Document, type_: str) -> list[Fault]:
    faults = []
    if document.get("type") != type_:
        faults.append(Fault("/type", f"must be {type_}"))
    version = document.get("stac_version")
    if not isinstance(version, str) or not re.match(r"\A1\.\d+\.\d+\Z", version):
        faults.append(
            Fault("/stac_version", f"must be a version of STAC 1, such as {STAC_VERSION}")
        )
    try:
        check_id(document.get("id"))
    except InvalidIdError as error:
        faults.append(Fault("/id", str(error)))
    extensions = document.get("stac_extensions", [])
    if not isinstance(extensions, list) or not all(isinstance(e, str) for e in extensions):
        faults.append(Fault("/stac_extensions", "must be an array of URLs"))
    return faults


def _check_geometry(item: Document) -> list[Fault]:
    geometry = item.get("geometry")
    if geometry is None:
        return [Fault("/geometry", "is needed: the record keeps no item without a footprint")]
    try:
        parse_geometry_obj(geometry)
        positions = list(_positions(geometry))
    except (ValidationError, ValueError, TypeError, KeyError) as error:
        detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        return [Fault("/geometry", f"is not a valid GeoJSON geometry: {detail}")]
    if not positions:
        return [Fault("/geometry", "is empty")]
    if not all(abs(x) <= 180 and abs(y) <= 90 for x, y in positions):
        return [Fault("/geometry", "must be longitude and latitude in degrees (WGS 84)")]
    return _check_bbox(item.get("bbox"), bbox_of(geometry))


def _check_bbox(bbox: Any, actual: list[float]) -> list[Fault]:
    if not isinstance(bbox, list) or len(bbox) not in (4, 6):
        return [Fault("/bbox", "must be an array of 4 or 6 numbers")]
    if not all(isinstance(n, int | float) and math.isfinite(n) for n in bbox):
        return [Fault("/bbox", "must hold finite numbers")]
    half = len(bbox) // 2
    west, south, east, north = bbox[0], bbox[1], bbox[half], bbox[half + 1]
    if west > east:
        return []  # crosses the antimeridian: its geometry is split there
    tolerance = 1e-6
    given = (west, south, east, north)
    if any(abs(a - b) > tolerance for a, b in zip(given, actual, strict=True)):
        return [Fault("/bbox", f"contradicts the geometry, whose bounds are {actual}")]
    return []


def _check_properties(properties: Any) -> list[Fault]:
    if not isinstance(properties, dict):
        return [Fault("/properties", "must be an object")]
    times: dict[str, datetime] = {}
    faults = []
    for name in ("datetime", "start_datetime", "end_datetime", "created", "updated"):
        if properties.get(name) is not None:
            try:
                times[name] = parse_time(properties[name])
            except ValueError as error:
                faults.append(Fault(pointer("properties", name), str(error)))
    if faults:
        return faults
    ranged = "start_datetime" in times and "end_datetime" in times
    if "datetime" not in times and not ranged:
        detail = "is needed, or null together with start_datetime and end_datetime"
        return [Fault("/properties/datetime", detail)]
    if "datetime" not in properties:
        return [Fault("/properties/datetime", "must be there, as null beside a range of time")]
    if ranged and times["start_datetime"] > times["end_datetime"]:
        return [Fault("/properties/end_datetime", "lies before start_datetime")]
    return []


def _check_links(document: Document) -> list[Fault]:
    links = document.get("links")
    if not isinstance(links, list):
        return [Fault("/links", "must be an array")]
    faults = []
    for index, link in enumerate(links):
        if not isinstance(link, dict):
            faults.append(Fault(pointer("links", index), "must be an object"))
        elif not isinstance(link.get("rel"), str) or not link["rel"]:
            faults.append(Fault(pointer("links", index, "rel"), "must be a text"))
    return faults


def _check_assets(item: Document) -> list[Fault]:
    assets = item.get("assets")
    if not isinstance(assets, dict):
        return [Fault("/assets", "must be an object")]
    return [
        Fault(pointer("assets", key), "must be an object")
        for key, asset in assets.items()
        if not isinstance(asset, dict)
    ]


def _check_hrefs(document: Document) -> list[Fault]:
    faults = []
    for place, href in hrefs_of(document):
        if not isinstance(href, str) or not href:
            faults.append(Fault(pointer(*place), "must be a URL"))
            continue
        try:
            scheme = urlsplit(href).scheme.lower()
        except ValueError as error:
            faults.append(Fault(pointer(*place), f"is not a URL: {error}"))
            continue
        if scheme not in _SCHEMES or any(ord(c) < 32 for c in href):
            faults.append(
                Fault(pointer(*place), f"has a scheme that is not allowed: {href[:80]!r}")
            )
    return faults


def _check_extent(extent: Any) -> list[Fault]:
    try:
        boxes = extent["spatial"]["bbox"]
        intervals = extent["temporal"]["interval"]
    except (TypeError, KeyError):
        return [Fault("/extent", "must hold spatial.bbox and temporal.interval")]
    faults = []
    if not boxes or not all(isinstance(b, list) and len(b) in (4, 6) for b in boxes):
        faults.append(Fault("/extent/spatial/bbox", "must be an array of boxes"))
    elif not all(isinstance(n, int | float) for box in boxes for n in box):
        faults.append(Fault("/extent/spatial/bbox", "must hold numbers"))
    if not isinstance(intervals, list) or not intervals:
        return [*faults, Fault("/extent/temporal/interval", "must be an array of intervals")]
    for index, interval in enumerate(intervals):
        where = pointer("extent", "temporal", "interval", index)
        if not isinstance(interval, list) or len(interval) != 2:
            faults.append(Fault(where, "must be a start and an end"))
            continue
        for end in interval:
            if end is not None:
                try:
                    parse_time(end)
                except ValueError as error:
                    faults.append(Fault(where, str(error)))
    return faults


def _positions(geometry: Document) -> list[tuple[float, float]]:
    if geometry["type"] == "GeometryCollection":
        return [position for part in geometry["geometries"] for position in _positions(part)]
    found: list[tuple[float, float]] = []
    pending = [geometry["coordinates"]]
    while pending:
        value = pending.pop()
        if value and isinstance(value[0], int | float):
            found.append((float(value[0]), float(value[1])))
        else:
            pending.extend(value)
    return found
