"""Version numbers of datasets and models, and the links between versions.

A number is taken in the transaction that stores the item, under a lock on the name, so numbers
neither clash nor leave gaps.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mlops.items.ids import version_id
from mlops.items.rels import Rel
from stac_api import hrefs, records
from stac_api.documents import Document
from stac_api.problems import Problem
from stac_api.records import Stored
from stac_api.rules import Writing


@dataclass(frozen=True)
class Version:
    """A version that is being made, and the one before it."""

    name: str
    number: int
    item: str
    predecessor: str | None


async def find(writing: Writing, name: str, origin: str) -> Stored | None:
    """The version of ``name`` that ``origin`` made, under the name's lock; None if none did."""
    await _lock(writing, name)
    item = await writing.connection.fetchval(
        "SELECT item FROM mlops.versions WHERE collection = $1 AND name = $2 AND origin = $3",
        *(writing.place.collection, name, origin),
    )
    if item is None:
        return None
    return await records.read_item(writing.connection, writing.place.collection, item)


async def take(writing: Writing, item: Document, name: str, origin: str) -> Version:
    """Take the next number of ``name`` and write it into ``item``; call :func:`find` before."""
    collection = writing.place.collection
    row = await writing.connection.fetchrow(
        "SELECT coalesce(max(version), 0) + 1 AS next FROM mlops.versions"
        " WHERE collection = $1 AND name = $2",
        *(collection, name),
    )
    number = int(row["next"])
    version = Version(name, number, version_id(name, number), await _newest(writing, name))
    _check_wishes(item, version)
    item["id"] = version.item
    item["properties"]["version"] = str(number)
    item["links"] = [
        link
        for link in item.get("links") or []
        if not (isinstance(link, dict) and link.get("rel") in _VERSION_RELS)
    ]
    item["links"].append(_link(Rel.LATEST_VERSION, collection, version.item))
    if version.predecessor:
        item["links"].append(_link(Rel.PREDECESSOR_VERSION, collection, version.predecessor))
    await writing.connection.execute(
        "INSERT INTO mlops.versions (collection, name, version, item, origin)"
        " VALUES ($1, $2, $3, $4, $5)",
        *(collection, name, number, version.item, origin),
    )
    return version


async def link_older(writing: Writing, item: Document, name: str) -> None:
    """Point the older versions of ``name`` to the one that was stored now."""
    collection = writing.place.collection
    rows = await writing.connection.fetch(
        "SELECT item FROM mlops.versions WHERE collection = $1 AND name = $2 AND item <> $3"
        " ORDER BY version DESC",
        *(collection, name, item["id"]),
    )
    older = [row["item"] for row in rows]
    if not older:
        return
    predecessors = {
        link["href"].rsplit("/", 1)[-1]
        for link in item["links"]
        if link["rel"] == Rel.PREDECESSOR_VERSION
    }
    latest = {Rel.LATEST_VERSION: item["id"]}
    await _lead(writing, [i for i in older if i not in predecessors], latest)
    await _lead(
        writing,
        [i for i in older if i in predecessors],
        {**latest, Rel.SUCCESSOR_VERSION: item["id"]},
    )


async def lock_name_of(writing: Writing, item: str) -> None:
    """Lock the name that an item is a version of; call it before the item itself is locked."""
    name = await writing.connection.fetchval(_NAME_OF, writing.place.collection, item)
    if name is not None:
        await _lock(writing, name)


async def close_gap(writing: Writing, item: str) -> None:
    """After a version was removed: point those before and behind it to each other."""
    collection = writing.place.collection
    rows = await writing.connection.fetch(_AROUND, collection, item)
    before = [row["item"] for row in rows if row["is_before"]]
    behind = [row["item"] for row in rows if not row["is_before"]]
    last = before[-1] if before else None
    latest = {} if behind else {Rel.LATEST_VERSION: last}
    await _lead(writing, before[:-1], latest)
    successor = behind[0] if behind else None
    await _lead(writing, before[-1:], {Rel.SUCCESSOR_VERSION: successor, **latest})
    await _lead(writing, behind[:1], {Rel.PREDECESSOR_VERSION: last})


async def _lead(writing: Writing, items: list[str], targets: Mapping[Rel, str | None]) -> None:
    """Link versions to others, or to none, by relation type.

    All links of a version at once: it is changed once, and one event tells of it.
    """
    if items and targets:
        links = {
            rel.value: None if target is None else _link(rel, writing.place.collection, target)
            for rel, target in targets.items()
        }
        await records.set_links(writing.connection, writing.place, items, links)


_VERSION_RELS = frozenset({Rel.LATEST_VERSION, Rel.PREDECESSOR_VERSION, Rel.SUCCESSOR_VERSION})


_NAME_OF = "SELECT name FROM mlops.versions WHERE collection = $1 AND item = $2"
# The versions of the same name that are there still.
_AROUND = """
    SELECT v.item, v.version < gone.version AS is_before
    FROM mlops.versions gone
    JOIN mlops.versions v ON v.collection = gone.collection AND v.name = gone.name
    JOIN pgstac.items i ON i.collection = v.collection AND i.id = v.item
    WHERE gone.collection = $1 AND gone.item = $2 AND v.item <> $2
    ORDER BY v.version
"""


async def _lock(writing: Writing, name: str) -> None:
    await writing.connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
        f"mlops.versions:{writing.place.collection}/{name}",
    )


async def _newest(writing: Writing, name: str) -> str | None:
    newest = await writing.connection.fetchval(
        "SELECT v.item FROM mlops.versions v JOIN pgstac.items i"
        " ON i.collection = v.collection AND i.id = v.item"
        " WHERE v.collection = $1 AND v.name = $2 ORDER BY v.version DESC LIMIT 1",
        *(writing.place.collection, name),
    )
    return str(newest) if newest is not None else None


def _check_wishes(item: Document, version: Version) -> None:
    wished_id, wished = item.get("id"), item["properties"].get("version")
    if wished_id not in (None, version.item) or wished not in (None, str(version.number)):
        raise Problem(
            409,
            f"The next version of {version.name} is {version.number}, with the id {version.item}. "
            "Leave id and version out: the server gives them.",
        )


def _link(rel: Rel, collection: str, item: str) -> Document:
    return {
        "rel": rel.value,
        "type": hrefs.GEOJSON,
        "href": hrefs.stored_item_href(collection, item),
        "title": item,
    }
