"""Temporal operators of CQL2: how two ranges of time lie to each other (Allen's relations)."""

from stac_api.search.properties import Expression, Type

TEMPORAL = {
    "t_after": "{a} > {be}",
    "t_before": "{ae} < {b}",
    "t_contains": "{a} < {b} AND {ae} > {be}",
    "t_disjoint": "{ae} < {b} OR {a} > {be}",
    "t_during": "{a} > {b} AND {ae} < {be}",
    "t_equals": "{a} = {b} AND {ae} = {be}",
    "t_finishedBy": "{ae} = {be} AND {a} < {b}",
    "t_finishes": "{ae} = {be} AND {a} > {b}",
    "t_intersects": "{a} <= {be} AND {ae} >= {b}",
    "t_meets": "{ae} = {b}",
    "t_metBy": "{a} = {be}",
    "t_overlappedBy": "{a} > {b} AND {a} < {be} AND {ae} > {be}",
    "t_overlaps": "{a} < {b} AND {ae} > {b} AND {ae} < {be}",
    "t_startedBy": "{a} = {b} AND {ae} > {be}",
    "t_starts": "{a} = {b} AND {ae} < {be}",
}
"""``a`` and ``b`` are the starts, ``ae`` and ``be`` the ends."""


def instant(value: Expression) -> str:
    """A value as a time; NULL for one that is none."""
    if value.type is Type.TIME:
        return value.sql
    if value.type is Type.JSON:
        return f"mlops.instant({value.sql})"
    return "NULL::timestamptz"
