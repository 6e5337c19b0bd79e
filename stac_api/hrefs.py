"""Hrefs and links of documents.

An href that points into this API is stored relative to the API's root, so that the record stays
right when the API moves to another host, port or prefix; on the way out every href is absolute.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urljoin

from mlops.items.rels import INFERRED, Rel
from stac_api.documents import Document

GEOJSON = "application/geo+json"
JSON = "application/json"
# An item's own URL lies three segments below the root: collections/{c}/items/{i}.
_ITEM_TO_ROOT = "../../../"
_COLLECTION_TO_ROOT = "../"


def item_url(base_url: str, collection: str, item: str) -> str:
    """The URL of an item; ``base_url`` ends with a slash."""
    return f"{base_url}collections/{quote(collection)}/items/{quote(item)}"


def collection_url(base_url: str, collection: str) -> str:
    """The URL of a collection."""
    return f"{base_url}collections/{quote(collection)}"


def stored_item_href(collection: str, item: str) -> str:
    """How an item's URL is stored in another item."""
    return item_url(_ITEM_TO_ROOT, collection, item)


def stored_asset_href(key: str) -> str:
    """How the API's own URL of an object is stored in an item."""
    return f"{_ITEM_TO_ROOT}assets/{quote(key)}"


def render_item(item: Document, base_url: str) -> Document:
    """The item as it is read: links of its place added, every href absolute.

    A part of an item (the ``fields`` extension) is rendered as far as it is there.
    """
    if "links" not in item and "assets" not in item:
        return item
    collection, item_id = item.get("collection"), item.get("id")
    if collection is None or item_id is None:
        return item
    own = item_url(base_url, collection, item_id)
    rendered = dict(item)
    if "links" in item:
        home = collection_url(base_url, collection)
        rendered["links"] = [
            {"rel": Rel.SELF, "type": GEOJSON, "href": own},
            {"rel": Rel.ROOT, "type": JSON, "href": base_url},
            {"rel": Rel.PARENT, "type": JSON, "href": home},
            {"rel": Rel.COLLECTION, "type": JSON, "href": home},
            *_resolved_links(item["links"], own),
        ]
    if isinstance(item.get("assets"), dict):
        rendered["assets"] = {
            key: _resolved_asset(asset, own) for key, asset in item["assets"].items()
        }
    return rendered


def strip_item(item: Document, base_url: str) -> Document:
    """The reverse of :func:`render_item`: the item as it is stored."""
    stripped = dict(item)
    if isinstance(item.get("links"), list):
        stripped["links"] = _stripped_links(item["links"], base_url, _ITEM_TO_ROOT)
    if isinstance(item.get("assets"), dict):
        stripped["assets"] = {
            key: _stripped_asset(asset, base_url) for key, asset in item["assets"].items()
        }
    return stripped


def render_collection(collection: Document, base_url: str) -> Document:
    """The collection as it is read."""
    own = collection_url(base_url, collection["id"])
    rendered = dict(collection)
    rendered["links"] = [
        {"rel": Rel.SELF, "type": JSON, "href": own},
        {"rel": Rel.ROOT, "type": JSON, "href": base_url},
        {"rel": Rel.PARENT, "type": JSON, "href": base_url},
        {"rel": "items", "type": GEOJSON, "href": f"{own}/items"},
        {
            "rel": "http://www.opengis.net/def/rel/ogc/1.0/queryables",
            "type": "application/schema+json",
            "title": "Queryables",
            "href": f"{own}/queryables",
        },
        *_resolved_links(
            [link for link in collection.get("links") or [] if "queryables" not in link["rel"]], own
        ),
    ]
    return rendered


def strip_collection(collection: Document, base_url: str) -> Document:
    """The reverse of :func:`render_collection`."""
    stripped = dict(collection)
    if isinstance(collection.get("links"), list):
        links = [
            link
            for link in collection["links"]
            if not (isinstance(link, dict) and "queryables" in str(link.get("rel")))
        ]
        stripped["links"] = _stripped_links(links, base_url, _COLLECTION_TO_ROOT)
    return stripped


def hrefs_of(document: Document) -> Iterator[tuple[tuple[object, ...], Any]]:
    """Every href of a document's links and assets, with its place."""
    for index, link in enumerate(document.get("links") or []):
        if isinstance(link, dict):
            yield ("links", index, "href"), link.get("href")
    for key, asset in (document.get("assets") or {}).items():
        if isinstance(asset, dict):
            yield ("assets", key, "href"), asset.get("href")
            for name, alternate in (asset.get("alternate") or {}).items():
                if isinstance(alternate, dict):
                    yield ("assets", key, "alternate", name, "href"), alternate.get("href")


def _resolved_links(links: Any, own: str) -> list[Document]:
    return [
        {**link, "href": urljoin(own, link["href"])}
        for link in links
        if link["rel"] not in INFERRED
    ]


def _resolved_asset(asset: Document, own: str) -> Document:
    resolved = {**asset, "href": urljoin(own, asset["href"])}
    if isinstance(asset.get("alternate"), dict):
        resolved["alternate"] = {
            name: {**alternate, "href": urljoin(own, alternate["href"])}
            for name, alternate in asset["alternate"].items()
        }
    return resolved


def _stripped_links(links: list[Any], base_url: str, to_root: str) -> list[Any]:
    return [
        {**link, "href": _relative(link.get("href"), base_url, to_root)}
        if isinstance(link, dict)
        else link
        for link in links
        if not (isinstance(link, dict) and link.get("rel") in INFERRED)
    ]


def _stripped_asset(asset: Any, base_url: str) -> Any:
    if not isinstance(asset, dict):
        return asset
    stripped = {**asset, "href": _relative(asset.get("href"), base_url, _ITEM_TO_ROOT)}
    if isinstance(asset.get("alternate"), dict):
        stripped["alternate"] = {
            name: {**alternate, "href": _relative(alternate.get("href"), base_url, _ITEM_TO_ROOT)}
            if isinstance(alternate, dict)
            else alternate
            for name, alternate in asset["alternate"].items()
        }
    return stripped


def _relative(href: Any, base_url: str, to_root: str) -> Any:
    if isinstance(href, str) and href.startswith(base_url):
        return to_root + href[len(base_url) :]
    return href
