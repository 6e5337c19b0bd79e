"""What every item and collection must be before it is stored, whatever its kind."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlops.items.extension import STAC_VERSION
from mlops.items.ids import InvalidIdError, check_id
from stac_api.documents import Document
from stac_api.extension_schemas import check_schemas
from stac_api.geometry import check_geometry
from stac_api.problems import Fault, invalid, pointer

_SCHEMES = frozenset({"http", "https", "s3", "gs", "az", "abfs", "abfss", "oci", "ftp", "docker"})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_NEVER_IN_HREFS = re.compile(r"[\x00-\x1f\x7f]|\A\s|\s\Z")
_EXTENSION = re.compile(r"https?://[^\s\x00-\x1f\x7f]+\Z")
_VERSIONS = re.compile(r"\A1\.[01]\.\d+\Z", re.ASCII)
_RFC3339 = re.compile(
    r"\A\d{4}-\d{2}-\d{2}[Tt]([01]\d|2[0-3]):\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})\Z",
    re.ASCII,
)
_LAST = datetime.max.replace(tzinfo=UTC)
_FINER = re.compile(r"\.\d{6}\d*[1-9]", re.ASCII)
_TIMES = (
    "datetime",
    "start_datetime",
    "end_datetime",
    "created",
    "updated",
    "published",
    "expires",
    "unpublished",
)


def check_shape(item: Document) -> None:
    """Raise a 422 problem unless an item has the parts that its rules take for granted."""
    faults = [
        *_check_id(item.get("id", "given-later")),
        *_check_links(item.get("links")),
        *_check_assets(item.get("assets")),
        *_check_extensions(item),
    ]
    for name, kinds, what in (
        ("properties", dict, "an object"),
        ("geometry", dict | None, "a GeoJSON geometry, or null"),
        ("collection", str, "the id of the collection"),
    ):
        if not isinstance(item.get(name), kinds):
            faults.append(Fault(pointer(name), f"must be {what}"))
    if faults:
        raise invalid("The item is not a valid STAC Item.", *faults)


def check_item(item: Document, extension_schemas: Path | None = None) -> None:
    """Raise a 422 problem that names every fault of an item whose shape was checked before."""
    faults = [
        *_check_identity(item, "Feature"),
        *check_geometry(item),
        *_check_properties(item.get("properties")),
    ]
    # The schemas say the same in fewer words, where there is a fault.
    faults = faults or check_schemas(item, extension_schemas)
    if faults:
        raise invalid("The item is not a valid STAC Item.", *faults)


def check_collection_shape(collection: Document) -> None:
    """Raise a 422 problem unless a collection has links that can be stored; none are added."""
    if collection.get("links") is None:
        collection["links"] = []
    faults = list(_check_links(collection["links"]))
    if faults:
        raise invalid("The collection is not a valid STAC Collection.", *faults)


def check_collection(collection: Document, extension_schemas: Path | None = None) -> None:
    """Raise a 422 problem that names every fault of a collection that is about to be stored."""
    faults = [
        *_check_identity(collection, "Collection"),
        *_check_extent(collection.get("extent")),
        *_check_links(collection.get("links")),
        *_check_assets(collection.get("assets", {})),
        *_check_providers(collection.get("providers"), "providers"),
    ]
    for field in ("description", "license"):
        if not isinstance(collection.get(field), str) or not collection[field]:
            faults.append(Fault(pointer(field), "must be a text that is not empty"))
    if not faults:
        faults = check_schemas(collection, extension_schemas)
    if faults:
        raise invalid("The collection is not a valid STAC Collection.", *faults)


def parse_time(value: object) -> datetime:
    """An RFC 3339 time; ValueError says what is wrong with it."""
    if not isinstance(value, str) or not _RFC3339.match(value):
        raise ValueError("must be an RFC 3339 time with a zone, such as 2026-11-23T10:00:00Z")
    try:
        time = datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"is not a time: {error}") from error
    if time == _LAST and _FINER.search(value):
        # The database rounds to microseconds where Python cuts off.
        raise ValueError("is not a time: the last that is kept is 9999-12-31T23:59:59.999999Z")
    return time


def _check_identity(document: Document, type_: str) -> Iterator[Fault]:
    if document.get("type") != type_:
        yield Fault("/type", f"must be {type_}")
    version = document.get("stac_version")
    if not isinstance(version, str) or not _VERSIONS.match(version):
        yield Fault("/stac_version", f"must be STAC 1.0 or 1.1, such as {STAC_VERSION}")
    yield from _check_id(document.get("id"))
    yield from _check_extensions(document)


def _check_id(value: Any) -> Iterator[Fault]:
    try:
        check_id(value)
    except InvalidIdError as error:
        yield Fault("/id", str(error))


def _check_extensions(document: Document) -> Iterator[Fault]:
    extensions = document.get("stac_extensions", [])
    if not isinstance(extensions, list) or not all(
        isinstance(e, str) and _EXTENSION.match(e) for e in extensions
    ):
        yield Fault("/stac_extensions", "must be an array of URLs, such as https://…/schema.json")


def _check_properties(properties: Any) -> list[Fault]:
    if not isinstance(properties, dict):
        return [Fault("/properties", "must be an object")]
    faults = list(_check_common(properties, "properties"))
    if faults:
        return faults
    ends = (properties.get("start_datetime"), properties.get("end_datetime"))
    if properties.get("datetime") is None and None in ends:
        detail = "is needed, or null together with start_datetime and end_datetime"
        return [Fault("/properties/datetime", detail)]
    if "datetime" not in properties:
        return [Fault("/properties/datetime", "must be there, as null beside a range of time")]
    return []


def _check_common(fields: Document, *place: object) -> Iterator[Fault]:
    """The times and the providers that an item and each of its assets may have."""
    yield from _check_providers(fields.get("providers"), *place, "providers")
    times: dict[str, datetime] = {}
    for name in _TIMES:
        if fields.get(name) is not None:
            try:
                times[name] = parse_time(fields[name])
            except ValueError as error:
                yield Fault(pointer(*place, name), str(error))
    start, end = times.get("start_datetime"), times.get("end_datetime")
    if start is not None and end is not None and start > end:
        yield Fault(pointer(*place, "end_datetime"), "lies before start_datetime")


def _check_links(links: Any) -> Iterator[Fault]:
    if not isinstance(links, list):
        yield Fault("/links", "must be an array")
        return
    for index, link in enumerate(links):
        if not isinstance(link, dict):
            yield Fault(pointer("links", index), "must be an object")
            continue
        if not isinstance(link.get("rel"), str) or not link["rel"]:
            yield Fault(pointer("links", index, "rel"), "must be a text")
        yield from _check_href(link.get("href"), "links", index, "href")


def _check_assets(assets: Any) -> Iterator[Fault]:
    if not isinstance(assets, dict):
        yield Fault("/assets", "must be an object")
        return
    for key, asset in assets.items():
        if not isinstance(asset, dict):
            yield Fault(pointer("assets", key), "must be an object")
            continue
        yield from _check_href(asset.get("href"), "assets", key, "href")
        yield from _check_common(asset, "assets", key)
        alternates = asset.get("alternate", {})
        if not isinstance(alternates, dict):
            yield Fault(pointer("assets", key, "alternate"), "must be an object")
            continue
        for name, alternate in alternates.items():
            place = ("assets", key, "alternate", name)
            if not isinstance(alternate, dict):
                yield Fault(pointer(*place), "must be an object")
            else:
                yield from _check_href(alternate.get("href"), *place, "href")


def _check_href(href: Any, *place: object) -> Iterator[Fault]:
    if not isinstance(href, str) or not href:
        yield Fault(pointer(*place), "must be a URL")
    elif _NEVER_IN_HREFS.search(href):
        yield Fault(pointer(*place), "holds characters that no URL has")
    elif (scheme := _SCHEME.match(href)) and scheme[1].lower() not in _SCHEMES:
        known = ", ".join(sorted(_SCHEMES))
        detail = f"has the scheme {scheme[1][:40]!r}, which is not allowed; one of {known} is"
        yield Fault(pointer(*place), detail)
    elif not href.isascii() or "[" in href or "]" in href:
        try:
            urlsplit(href)
        except ValueError as error:
            yield Fault(pointer(*place), f"is not a URL: {error}")


def _check_providers(providers: Any, *place: object) -> list[Fault]:
    """The links of providers are shown to readers as other links are."""
    return [
        fault
        for index, provider in enumerate(providers if isinstance(providers, list) else ())
        if isinstance(provider, dict) and "url" in provider
        for fault in _check_href(provider["url"], *place, index, "url")
    ]


def _check_extent(extent: Any) -> list[Fault]:
    try:
        boxes = extent["spatial"]["bbox"]
        intervals = extent["temporal"]["interval"]
    except (TypeError, KeyError):
        return [Fault("/extent", "must hold spatial.bbox and temporal.interval")]
    faults = []
    for name, part in (("spatial/bbox", boxes), ("temporal/interval", intervals)):
        if not isinstance(part, list) or not part:
            faults.append(Fault(f"/extent/{name}", "must be an array that is not empty"))
    if faults:
        return faults
    for index, box in enumerate(boxes):
        faults += _check_box(box, pointer("extent", "spatial", "bbox", index))
    for index, interval in enumerate(intervals):
        faults += _check_interval(interval, pointer("extent", "temporal", "interval", index))
    return faults


def _check_box(box: Any, where: str) -> Iterator[Fault]:
    if not isinstance(box, list) or len(box) not in (4, 6):
        yield Fault(where, "must be an array of 4 or 6 numbers")
        return
    if not all(type(n) in (int, float) for n in box):
        yield Fault(where, "must hold numbers")
        return
    half = len(box) // 2
    (west, south), (east, north) = box[:2], box[half : half + 2]
    if not (min(west, east) >= -180 and max(west, east) <= 180 and -90 <= south <= north <= 90):
        yield Fault(where, "must be west, south, east, north in degrees (WGS 84)")
    elif half == 3 and box[2] > box[5]:
        yield Fault(f"{where}/2", "is above the upper height")


def _check_interval(interval: Any, where: str) -> Iterator[Fault]:
    if not isinstance(interval, list) or len(interval) != 2:
        yield Fault(where, "must be a start and an end")
        return
    try:
        times = [parse_time(end) for end in interval if end is not None]
    except ValueError as error:
        yield Fault(where, str(error))
        return
    if times != sorted(times):
        yield Fault(where, "ends before it starts")
