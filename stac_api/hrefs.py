"""Hrefs and links of documents.

An item is stored with all its links, and every href in it absolute, but for its beginning: one
character (U+E000, private use) stands for the root of the API. So an item is read as text with one
replacement, and the record stays right when the API moves to another host, port or prefix.

In that text, which the database keeps beside the item, a single byte stands for the character and
the quote before it: one that no JSON has outside of its escapes, and found ten times as fast.
"""

import re
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urljoin

import orjson

from mlops.items.rels import Rel
from stac_api.documents import Document

GEOJSON = "application/geo+json"
JSON = "application/json"
SCHEMA_JSON = "application/schema+json"
OPENAPI = "application/vnd.oai.openapi+json;version=3.1"
ROOT = "\ue000"
"""Stands for the root of the API at the beginning of a stored href; no text of a client's may
begin with it."""
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_PLAIN = re.compile(r"[A-Za-z0-9._-]+\Z", re.ASCII)
_TO_LINK = re.compile(r"\A/links/([0-9]+)(.*)\Z", re.DOTALL)
_LONGEST_KEPT = 300
_MARKED = f'"{ROOT}'.encode()
_MARK = b"\x02"
"""Stands for the same in the text of stored items."""
_OF_ITEMS_PLACE = frozenset({Rel.SELF, Rel.ROOT, Rel.PARENT, Rel.COLLECTION})
_QUERYABLES = "http://www.opengis.net/def/rel/ogc/1.0/queryables"
_OF_COLLECTIONS_PLACE = frozenset(
    {Rel.SELF, Rel.ROOT, Rel.PARENT, "items", "child", "queryables", _QUERYABLES}
)
# A collection's own URL lies two segments below the root.
_COLLECTION_TO_ROOT = "../"


def item_url(base_url: str, collection: str, item: str) -> str:
    """The URL of an item; ``base_url`` ends with a slash, or is :data:`ROOT`."""
    return f"{collection_url(base_url, collection)}/items/{_quoted(item)}"


def collection_url(base_url: str, collection: str) -> str:
    """The URL of a collection."""
    return f"{base_url}collections/{_quoted(collection)}"


def _quoted(name: str) -> str:
    # Nearly all names are their own quotation, and to see that is ten times as fast.
    return name if _PLAIN.match(name) else quote(name)


def stored_item_href(collection: str, item: str) -> str:
    """How an item's URL is stored in another item."""
    return item_url(ROOT, collection, item)


def render(stored: bytes, base_url: str) -> bytes:
    """Text of stored items as it is read under ``base_url``; :data:`ROOT` keeps hrefs as stored."""
    return stored.replace(_MARK, orjson.dumps(base_url)[:-1])


def render_item(item: Document, base_url: str) -> bytes:
    """A stored item as the JSON that a reader gets."""
    return orjson.dumps(item).replace(_MARKED, orjson.dumps(base_url)[:-1])


def strip_item(item: Document, base_url: str) -> Document:
    """An item as it is stored: hrefs resolved, links of its place made anew.

    What the server adds to it or to its properties later is not added to ``item``.
    """
    stripped = dict(item)
    if isinstance(item.get("properties"), dict):
        stripped["properties"] = dict(item["properties"])
    if isinstance(item.get("stac_extensions"), list):
        stripped["stac_extensions"] = list(item["stac_extensions"])
    own = item_url(base_url, str(item.get("collection")), str(item.get("id")))
    links = item.get("links")
    if isinstance(links, list):
        stripped["links"] = [
            {**link, "href": _stored(link.get("href"), own, base_url)}
            if isinstance(link, dict)
            else link
            for link in links
        ]
        link_place(stripped)
    if isinstance(item.get("assets"), dict):
        stripped["assets"] = {
            key: _stripped_asset(asset, own, base_url) for key, asset in item["assets"].items()
        }
    return stripped


def link_place(item: Document) -> None:
    """Give a stored item the links of its place, instead of those it has."""
    links = _place_links(str(item.get("collection")), str(item.get("id")))
    given = [
        link
        for link in item["links"]
        if not (isinstance(link, dict) and link.get("rel") in _OF_ITEMS_PLACE)
    ]
    item["links"] = links + given


def as_given(pointer: str, given: Document) -> str:
    """A JSON Pointer into a stored item as one into what it was ``given`` as, whose links may have
    been fewer, and in other places."""
    found = _TO_LINK.match(pointer)
    if found is None:
        return pointer
    kept = [
        index
        for index, link in enumerate(given.get("links") or [])
        if not (isinstance(link, dict) and link.get("rel") in _OF_ITEMS_PLACE)
    ]
    index = int(found[1]) - len(_place_links("", ""))
    # A link that the server has added stands nowhere in what was given.
    return f"/links/{kept[index]}{found[2]}" if 0 <= index < len(kept) else "/links"


def render_collection(collection: Document, base_url: str) -> Document:
    """The collection as it is read."""
    own = collection_url(base_url, collection["id"])
    rendered = dict(collection)
    rendered["links"] = [
        {"rel": Rel.SELF, "type": JSON, "href": own},
        {"rel": Rel.ROOT, "type": JSON, "href": base_url},
        {"rel": Rel.PARENT, "type": JSON, "href": base_url},
        {"rel": "items", "type": GEOJSON, "href": f"{own}/items"},
        {"rel": "child", "type": JSON, "href": f"{own}/browse", "title": "Items, by id"},
        {
            "rel": _QUERYABLES,
            "type": "application/schema+json",
            "title": "Queryables",
            "href": f"{own}/queryables",
        },
        *(
            {**link, "href": _of_collection(link["href"], own, base_url)}
            for link in collection.get("links") or []
            if link["rel"] not in _OF_COLLECTIONS_PLACE
        ),
    ]
    return rendered


def strip_collection(collection: Document, base_url: str) -> Document:
    """The reverse of :func:`render_collection`."""
    stripped = dict(collection)
    own = collection_url(base_url, str(collection.get("id")))
    if isinstance(collection.get("links"), list):
        stripped["links"] = [
            {**link, "href": _relative(link.get("href"), own, base_url)}
            if isinstance(link, dict)
            else link
            for link in collection["links"]
            if not (isinstance(link, dict) and link.get("rel") in _OF_COLLECTIONS_PLACE)
        ]
    return stripped


def _of_collection(href: str, own: str, base_url: str) -> str:
    """A stored href of a collection as it is read."""
    if _ABSOLUTE.match(href):
        return href
    rest = href.removeprefix(_COLLECTION_TO_ROOT)
    # What was stored here is put after the root; joining would drop an empty query or fragment.
    stored_here = rest != href and not rest.startswith((".", "/"))
    return base_url + rest if stored_here else urljoin(own, href)


def _relative(href: Any, own: str, base_url: str) -> Any:
    """An href of a collection as it is stored: from the collection's own URL, or absolute."""
    if not isinstance(href, str) or not href:
        return href
    absolute = href if _ABSOLUTE.match(href) else urljoin(own, href)
    if not absolute.startswith(base_url):
        return absolute
    return _COLLECTION_TO_ROOT + absolute[len(base_url) :]


def _place_links(collection: str, item: str) -> list[Document]:
    home = collection_url(ROOT, collection)
    return [
        {"rel": Rel.SELF.value, "type": GEOJSON, "href": f"{home}/items/{_quoted(item)}"},
        {"rel": Rel.ROOT.value, "type": JSON, "href": ROOT},
        {"rel": Rel.PARENT.value, "type": JSON, "href": home},
        {"rel": Rel.COLLECTION.value, "type": JSON, "href": home},
    ]


def _stripped_asset(asset: Any, own: str, base_url: str) -> Any:
    if not isinstance(asset, dict):
        return asset
    stripped = {**asset, "href": _stored(asset.get("href"), own, base_url)}
    if isinstance(asset.get("alternate"), dict):
        stripped["alternate"] = {
            name: {**alternate, "href": _stored(alternate.get("href"), own, base_url)}
            if isinstance(alternate, dict)
            else alternate
            for name, alternate in asset["alternate"].items()
        }
    return stripped


def _stored(href: Any, own: str, base_url: str) -> Any:
    if not isinstance(href, str) or not href:
        return href
    # An absolute one stays as it is: joining would drop an empty query or fragment.
    absolute = href if _ABSOLUTE.match(href) else _joined(own, href)
    return ROOT + absolute[len(base_url) :] if absolute.startswith(base_url) else absolute


def _joined(own: str, href: str) -> str:
    if href[0] in "?#" or len(href) > _LONGEST_KEPT:
        return urljoin(own, href)
    return _joined_beside(own.rpartition("/")[0] + "/", href)


@lru_cache(maxsize=1024)
def _joined_beside(folder: str, href: str) -> str:
    """Items that lie side by side point to the same things, and joining is slow."""
    return urljoin(folder, href)
