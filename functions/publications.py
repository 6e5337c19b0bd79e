"""What a discovery catalogue gets of a published Item: a STAC Item, or a record of OGC API Records.

Pure: everything is passed in.
"""

from typing import Any

from mlops.api import Item
from mlops.items.rels import INFERRED, Rel

RECORD_CORE = "http://www.opengis.net/spec/ogcapi-records-1/1.0/req/record-core"
_GEOJSON = "application/geo+json"
_TYPES = {"model": "model", "training-data": "dataset"}
_WORDS = ("title", "description", "keywords", "license", "created", "updated", "providers")


def entry_id(workspace: str, item: str) -> str:
    """The id of an Item in catalogues that many workspaces publish to: no workspace has a dot."""
    return f"{workspace}.{item}"


def at_public_root(item: Item, own_root: str, public_root: str) -> Item:
    """The Item with the hrefs that everybody reaches, instead of those of the functions' door.

    Both are roots of the same API, without a slash at the end.
    """

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: moved(part) for name, part in value.items()}
        if isinstance(value, list):
            return [moved(part) for part in value]
        if isinstance(value, str) and value.startswith(f"{own_root}/"):
            return public_root + value[len(own_root) :]
        return value

    return {**moved(item)}


def stac_entry(item: Item, workspace: str, collection: str) -> Item:
    """The Item as one of the collection of another STAC API."""
    return {
        **item,
        "id": entry_id(workspace, item["id"]),
        "collection": collection,
        "links": [*_links(item), _canonical(item)],
    }


def record_entry(item: Item, workspace: str, kind: str) -> dict[str, Any]:
    """A record that describes the Item (OGC API Records, record core).

    Method: https://docs.ogc.org/is/20-004r1/20-004r1.html#clause-record-core
    """
    properties = item["properties"]
    words = {name: properties[name] for name in _WORDS if properties.get(name) is not None}
    return {
        "id": entry_id(workspace, item["id"]),
        "type": "Feature",
        "conformsTo": [RECORD_CORE],
        "geometry": item.get("geometry"),
        **({"bbox": item["bbox"]} if item.get("bbox") else {}),
        "time": _time(properties),
        "properties": {
            "type": _TYPES[kind],
            "title": item["id"],
            **words,
            "externalIds": [{"value": item["id"]}],
        },
        "links": [_canonical(item), *_links(item), *_enclosures(item)],
    }


def _links(item: Item) -> list[dict[str, Any]]:
    return [link for link in item.get("links", []) if link["rel"] not in INFERRED]


def _canonical(item: Item) -> dict[str, Any]:
    (own,) = [link["href"] for link in item["links"] if link["rel"] == Rel.SELF] or [None]
    return {"rel": "canonical", "type": _GEOJSON, "href": own, "title": "The Item of record"}


def _enclosures(item: Item) -> list[dict[str, Any]]:
    return [
        {
            "rel": "enclosure",
            "href": asset["href"],
            **({"type": asset["type"]} if asset.get("type") else {}),
            "title": asset.get("title") or key,
        }
        for key, asset in sorted(item.get("assets", {}).items())
    ]


def _time(properties: dict[str, Any]) -> dict[str, Any] | None:
    start, end = properties.get("start_datetime"), properties.get("end_datetime")
    if start or end:
        return {"interval": [start or "..", end or ".."]}
    instant = properties.get("datetime")
    return {"timestamp": instant} if instant else None
