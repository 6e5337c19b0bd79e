"""Patches: whatever is wrong is refused with a problem that points to it; nothing is changed."""

import json
from typing import Any

import httpx
import pytest

from tests.integration.plain import (
    ITEMS,
    Document,
    problem,
)


class TestPatch:
    @pytest.mark.parametrize(
        ("patch", "pointer"),
        [
            ({"properties": {"datetime": "garbage"}}, "/properties/datetime"),
            ({"properties": {"datetime": None}}, "/properties/datetime"),
            ({"properties": None}, "/properties"),
            ({"geometry": None}, "/geometry"),
            ({"geometry": {"coordinates": [[[0, 0]]]}}, "/geometry/coordinates/0"),
            ({"geometry": {"type": "Point"}}, "/geometry/coordinates"),
            ({"bbox": [0, 0, 1, 1]}, "/bbox"),
            ({"links": {"a": 1}}, "/links"),
            ({"assets": {"data": {"href": None}}}, "/assets/data/href"),
            ({"assets": {"data": {"href": "javascript:1"}}}, "/assets/data/href"),
            ({"stac_version": None}, "/stac_version"),
            ({"type": None}, "/type"),
            ({"stac_extensions": [None]}, "/stac_extensions"),
        ],
    )
    def test_that_breaks_the_item(
        self, imagery: httpx.Client, patch: Document, pointer: str
    ) -> None:
        before = imagery.get(f"{ITEMS}/kept").content
        for kind in ("application/merge-patch+json", "application/json"):
            answer = imagery.patch(
                f"{ITEMS}/kept", content=json.dumps(patch), headers={"Content-Type": kind}
            )
            problem(answer, 422, pointer)
        assert imagery.get(f"{ITEMS}/kept").content == before

    @pytest.mark.parametrize(
        ("operations", "status", "pointer"),
        [
            ({}, 400, ""),
            ([7], 400, "/0"),
            ([{}], 400, "/0/op"),
            ([{"op": "explode", "path": ""}], 400, "/0/op"),
            ([{"op": ["add"], "path": ""}], 400, "/0/op"),
            ([{"op": "add", "path": "/x"}], 400, "/0/value"),
            ([{"op": "add", "value": 1}], 400, "/0/path"),
            ([{"op": "add", "path": 7, "value": 1}], 400, "/0/path"),
            ([{"op": "add", "path": "x", "value": 1}], 400, "/0/path"),
            ([{"op": "add", "path": "/a~2", "value": 1}], 400, "/0/path"),
            ([{"op": "add", "path": "/a" * 65, "value": 1}], 400, "/0/path"),
            ([{"op": "move", "path": "/x"}], 400, "/0/from"),
            ([{"op": "add", "path": "/no/where", "value": 1}], 422, "/0/path"),
            ([{"op": "remove", "path": "/no"}], 422, "/0/path"),
            ([{"op": "remove", "path": ""}], 422, "/0/path"),
            ([{"op": "replace", "path": "/no", "value": 1}], 422, "/0/path"),
            ([{"op": "replace", "path": "", "value": 7}], 422, ""),
            ([{"op": "add", "path": "/bbox/9", "value": 1}], 422, "/0/path"),
            ([{"op": "add", "path": "/bbox/01", "value": 1}], 422, "/0/path"),
            ([{"op": "add", "path": "/bbox/-1", "value": 1}], 422, "/0/path"),
            ([{"op": "replace", "path": "/bbox/-", "value": 1}], 422, "/0/path"),
            ([{"op": "add", "path": "/id/x", "value": 1}], 422, "/0/path"),
            ([{"op": "move", "from": "/no", "path": "/x"}], 422, "/0/from"),
            ([{"op": "copy", "from": "/no", "path": "/x"}], 422, "/0/from"),
            ([{"op": "move", "from": "/properties", "path": "/properties/x"}], 422, "/0/path"),
            ([{"op": "move", "from": "/properties", "path": "/x"}], 422, "/properties"),
            ([{"op": "move", "from": "/assets/data", "path": "/links/0"}], 422, "/links/0/rel"),
            ([{"op": "test", "path": "/id", "value": "other"}], 409, "/0/path"),
            ([{"op": "test", "path": "/no", "value": 1}], 422, "/0/path"),
            ([{"op": "remove", "path": "/properties/datetime"}], 422, "/properties/datetime"),
            ([{"op": "replace", "path": "/id", "value": "other"}], 422, "/id"),
            (
                [
                    {"op": "add", "path": "/x", "value": 1},
                    {"op": "test", "path": "/x", "value": True},
                ],
                409,
                "/1/path",
            ),
            (
                [
                    {"op": "add", "path": "/x", "value": {}},
                    *({"op": "add", "path": "/x" * n, "value": {}} for n in range(2, 65)),
                ],
                400,
                "",
            ),
        ],
    )
    def test_json_patch_that_cannot_be_applied(
        self, imagery: httpx.Client, operations: Any, status: int, pointer: str
    ) -> None:
        before = imagery.get(f"{ITEMS}/kept").content
        answer = imagery.patch(
            f"{ITEMS}/kept",
            content=json.dumps(operations),
            headers={"Content-Type": "application/json-patch+json"},
        )
        problem(answer, status, pointer)
        assert imagery.get(f"{ITEMS}/kept").content == before

    def test_json_patch_with_a_huge_result(self, imagery: httpx.Client) -> None:
        double = {"op": "copy", "from": "/properties", "path": "/properties/x"}
        grow = [{**double, "path": f"/properties/x{n}"} for n in range(40)]
        many = [{"op": "test", "path": "/id", "value": "kept"}] * 1001
        for operations in (grow, many):
            answer = imagery.patch(
                f"{ITEMS}/kept",
                content=json.dumps(operations),
                headers={"Content-Type": "application/json-patch+json"},
            )
            problem(answer, 413)

    def test_every_operation_does_what_rfc_6902_says(self, imagery: httpx.Client) -> None:
        operations = [
            {"op": "test", "path": "/id", "value": "kept"},
            {"op": "add", "path": "/properties/list", "value": [1, 3]},
            {"op": "add", "path": "/properties/list/1", "value": 2},
            {"op": "add", "path": "/properties/list/-", "value": 4},
            {"op": "copy", "from": "/properties/list", "path": "/properties/a~1b~0c"},
            {"op": "remove", "path": "/properties/list/0"},
            {"op": "move", "from": "/properties/list/0", "path": "/properties/first"},
            {"op": "replace", "path": "/properties/list/0", "value": None},
            {"op": "test", "path": "/properties/a~1b~0c", "value": [1, 2, 3, 4]},
        ]
        answer = imagery.patch(
            f"{ITEMS}/kept",
            content=json.dumps(operations),
            headers={"Content-Type": "application/json-patch+json"},
        )
        properties = answer.json()["properties"]
        assert properties["a/b~c"] == [1, 2, 3, 4]
        assert (properties["first"], properties["list"]) == (2, [None, 4])
