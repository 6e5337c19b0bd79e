"""What may change on items that are facts: only what describes them."""

from stac_api.documents import Document
from stac_api.problems import Fault, Problem, pointer
from stac_api.strict_json import equal_json

_DESCRIPTIVE = frozenset(
    {
        "title",
        "description",
        "keywords",
        "license",
        "providers",
        "deprecated",
        "mlops:published",
        "mlops:tags",
        "updated",
    }
)


def check_only_description_changed(what: str, before: Document, after: Document) -> None:
    """409 when more than the description of an immutable item changed."""
    faults = changed_properties(before, after, allowed=_DESCRIPTIVE)
    faults += [
        Fault(pointer(part), "cannot be changed")
        for part in sorted((before.keys() | after.keys()) - {"properties"})
        if not equal_json(before.get(part), after.get(part))
    ]
    if faults:
        raise Problem(409, f"{what} is immutable: make a new version instead.", faults)


def changed_properties(
    before: Document, after: Document, *, allowed: frozenset[str]
) -> list[Fault]:
    """A fault for each property that differs and is not ``allowed`` to."""
    old, new = before["properties"], after["properties"]
    return [
        Fault(pointer("properties", name), "cannot be changed")
        for name in sorted(old.keys() | new.keys())
        if name not in allowed and not equal_json(old.get(name), new.get(name))
    ]
