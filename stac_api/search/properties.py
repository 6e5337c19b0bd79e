"""Property names of filters and sort keys, as SQL over a row ``i`` of pgstac's items."""

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from mlops.items.model import ModelVersion
from mlops.items.training_data import DatasetVersion
from mlops.items.training_run import RunRecord, RunRequest
from stac_api.problems import Fault, Problem


class Type(Enum):
    """What an SQL expression gives."""

    JSON = auto()
    TEXT = auto()
    NUMBER = auto()
    TIME = auto()
    GEOMETRY = auto()


@dataclass(frozen=True)
class Expression:
    """SQL of a known type. ``end`` is the end of a range of time where the expression has one;
    ``path`` leads to the value in a document, where it is a property; ``literal`` is the value
    that it is, where the filter says it."""

    sql: str
    type: Type
    end: str | None = None
    path: tuple[str, ...] = ()
    literal: Any = None


_COLUMNS = {
    "id": Expression("i.id", Type.TEXT),
    "collection": Expression("i.collection", Type.TEXT),
    "geometry": Expression("i.geometry", Type.GEOMETRY),
    "datetime": Expression("i.datetime", Type.TIME, "i.end_datetime"),
    "start_datetime": Expression("i.datetime", Type.TIME),
    "end_datetime": Expression("i.end_datetime", Type.TIME),
}
_ROOT_FIELDS = frozenset({"assets", "links", "bbox", "stac_version", "stac_extensions"})
# Without backslashes: what they mean between quotes is a setting of the database.
_STEP = r"[^.\\\x00-\x1f\x7f]{1,128}"
_NAME = re.compile(rf"\A{_STEP}(\.{_STEP}){{0,8}}\Z")
OWN_FIELDS = frozenset(
    {
        str(field.alias)
        for model in (RunRequest, RunRecord, DatasetVersion, ModelVersion)
        for field in model.model_fields.values()
        if str(field.alias).startswith("mlops:")
    }
    | {"mlops:run", "mlops:size", "mlops:tags", "mlops:published", "mlops:synthetic"}
)
"""The fields of our own extension: another name with its prefix is a mistake."""


def expression_of(name: object, place: str) -> Expression:
    """The SQL of a property; 400 with the place in the request for a name that cannot be one."""
    if not isinstance(name, str) or not _NAME.match(name):
        raise _unknown(name, place, "is not the name of a property")
    if name in _COLUMNS:
        return _COLUMNS[name]
    first, *rest = name.removeprefix("properties.").split(".")
    if first in _COLUMNS and not rest:
        return _COLUMNS[first]
    if first.startswith("mlops:") and first not in OWN_FIELDS:
        known = ", ".join(sorted(OWN_FIELDS))
        raise _unknown(name, place, f"is no field of the mlops extension; those are {known}")
    path = [first, *rest] if first in _ROOT_FIELDS else ["properties", first, *rest]
    # As constants, and not as arguments: an index must match them.
    steps = "".join(f"->{_quoted(step)}" for step in path)
    within = tuple(path) if path[0] == "properties" else ()
    return Expression(f"(i.content{steps})", Type.JSON, path=within)


def _quoted(step: str) -> str:
    return "'" + step.replace("'", "''") + "'"


def _unknown(name: object, place: str, why: str) -> Problem:
    shown = repr(name)[:80]
    return Problem(400, f"{shown} {why}.", [Fault(place, f"{shown} {why}")])
