"""Finding a version of a dataset or model by what people call it."""

import re
from dataclasses import dataclass

from mlops.api import Api, Item, NotFoundError
from mlops.items.ids import version_id

_COLON = re.compile(r"(?P<name>[^:]+):v?(?P<version>[1-9][0-9]*)")
_HYPHEN = re.compile(r"(?P<name>.+)-v(?P<version>[1-9][0-9]*)")


@dataclass(frozen=True)
class Family:
    """The versions of a dataset or model: where they lie and which property names them."""

    what: str
    collection: str
    property: str


def find_version(api: Api, family: Family, reference: str) -> Item:
    """The Item that ``name``, ``name:v3``, ``name:latest`` or ``name-v3`` means.

    A bare name means the latest version. Raises :class:`NotFoundError` that says what there is.
    """
    exact = _COLON.fullmatch(reference)
    if exact:
        item_id = version_id(exact["name"], int(exact["version"]))
        return _read(api, family, item_id, exact["name"])
    # A name may itself end like a version: it is looked for after the id.
    if _HYPHEN.fullmatch(reference):
        try:
            return api.get_item(family.collection, reference).item
        except NotFoundError:
            name = _HYPHEN.fullmatch(reference)
            if not versions_of(api, family, reference) and name:
                raise _not_found(api, family, reference, name["name"]) from None
    return _latest(api, family, reference.removesuffix(":latest"))


def versions_of(api: Api, family: Family, name: str | None = None) -> list[Item]:
    """All versions, or those of one name: by name, then by version."""
    body: dict[str, object] = {"collections": [family.collection]}
    if name is not None:
        condition = {"op": "=", "args": [{"property": family.property}, name]}
        body |= {"filter-lang": "cql2-json", "filter": condition}
    return sorted(
        api.search(**body),
        key=lambda item: (
            item["properties"][family.property],
            int(item["properties"]["version"]),
        ),
    )


def _read(api: Api, family: Family, item_id: str, name: str) -> Item:
    try:
        return api.get_item(family.collection, item_id).item
    except NotFoundError:
        raise _not_found(api, family, item_id, name) from None


def _latest(api: Api, family: Family, name: str) -> Item:
    versions = versions_of(api, family, name)
    if not versions:
        raise _not_found(api, family, name, name)
    return versions[-1]


def _not_found(api: Api, family: Family, wanted: str, name: str) -> NotFoundError:
    there = [item["properties"]["version"] for item in versions_of(api, family, name)]
    if there:
        hint = f"{name} has the version(s) {', '.join(f'v{number}' for number in there)}"
    else:
        names = sorted({i["properties"][family.property] for i in versions_of(api, family)})
        hint = f"there is {', '.join(names)}" if names else f"there is no {family.what} at all"
    return NotFoundError(404, f"There is no {family.what} {wanted} in {family.collection}: {hint}.")
