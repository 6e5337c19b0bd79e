"""Which searches one index answers, whatever their values are."""

from stac_api.pool import Planning
from stac_api.search.cql2 import Filter
from stac_api.search.properties import Type, expression_of
from stac_api.search.request import SearchRequest
from stac_api.search.sorting import Key

NEWEST_OF = frozenset(
    {
        "mlops:model",
        "mlops:status",
        "mlops:recipe",
        "mlops:task",
        "mlops:framework",
        "mlops:requested_by",
        "mlops:run",
        "mlops:dataset",
    }
)
"""Fields that have an index with the time and the id behind them (``mlops.indexed_fields``)."""
_PATHS = frozenset(("properties", name) for name in NEWEST_OF)


def planning_of(search: SearchRequest) -> Planning:
    """Once where the newest, or oldest, items of a collection are asked for, all of them or those
    with one value of an indexed field; else for each value."""
    narrowed = (
        search.ids,
        search.bbox,
        search.intersects,
        search.interval,
        search.free_text,
        search.filters[1:],
    )
    # To count them, as is done for who wants one, is another matter.
    if len(search.collections) != 1 or search.limit == 1 or any(narrowed):
        return Planning.EACH
    if not _is_by_time(search.keys) or not all(map(_is_of_one_value, search.filters)):
        return Planning.EACH
    return Planning.ONCE


def _is_by_time(keys: list[Key]) -> bool:
    columns = [key.expression.sql for key in keys]
    return columns == ["i.datetime", "i.id"] and keys[0].descending == keys[1].descending


def _is_of_one_value(filter_: Filter) -> bool:
    condition = filter_.condition
    if not isinstance(condition, dict) or condition.get("op") != "=":
        return False
    match condition.get("args"):
        case [{"property": name}, str()]:
            expression = expression_of(name, filter_.place)
            return expression.type is Type.JSON and expression.path in _PATHS
    return False
