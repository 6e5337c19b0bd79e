"""What is thrown at the API: any JSON, and valid documents with something wrong in them."""

import copy
import json
from typing import Any

from hypothesis import strategies as st

NASTY_TEXTS = [
    "",
    " ",
    "\u0000",
    "\ud800",
    "\ue000",
    "\u2028",
    "a" * 3000,
    "..",
    "../../etc/passwd",
    "a/b",
    "%00",
    "%2e%2e%2f",
    "javascript:alert(1)",
    "http://[::1",
    "//",
    "http://℀.example/",
    "NaN",
    "null",
    "2026-01-01T00:00:60Z",
    "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999999Z",
    "2026-01-01T00:00:00Z",
    "' OR 1=1 --",
    '"\\',
    "Feature",
    "self",
    "training-data",
    "successful",
    "dismissed",
    "model",
    "true",
    "kept",
    "imagery",
]
NASTY_NUMBERS = [
    0,
    -1,
    1,
    2**31,
    2**53 + 1,
    2**63 - 1,
    2**63,
    -(2**63) - 1,
    10**400,
    0.1,
    -0.0,
    5e-324,
    1.7976931348623157e308,
    180.0000001,
    90,
    -180,
    float("nan"),
    float("inf"),
]
KEYS = [
    "id",
    "type",
    "collection",
    "geometry",
    "coordinates",
    "bbox",
    "properties",
    "datetime",
    "start_datetime",
    "end_datetime",
    "links",
    "rel",
    "href",
    "assets",
    "alternate",
    "stac_extensions",
    "stac_version",
    "x:number",
    "mlops:status",
    "mlops:attempt",
    "mlops:kind",
    "mlops:events",
    "mlops:compute",
    "mlops:metrics",
    "mlops:published",
    "pgstac:base_item",
    "op",
    "path",
    "from",
    "value",
    "items",
    "features",
    "method",
    "__proto__",
    "a/b~c",
]

texts = st.sampled_from(NASTY_TEXTS) | st.text(max_size=12)
keys = st.sampled_from(KEYS) | texts
scalars = (
    st.none() | st.booleans() | st.sampled_from(NASTY_NUMBERS) | st.integers() | st.floats() | texts
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)

# Texts that are no JSON, or that only a careless reader takes for it.
RAW = [
    b"",
    b"null",
    b"[",
    b"{",
    b"{}",
    b"[]",
    b'{"a": 1, "a": 2}',
    b"[1e400]",
    b'{"id": "\xff"}',
    b"\xef\xbb\xbf{}",
    b"\x00",
    b"[" * 20_000,
    b'{"a":' * 300 + b"1" + b"}" * 300,
    b"9" * 5000,
    b'"\\ud800"',
]


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document but the whole of it."""
    inner = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    return [p for key, value in inner for p in ((*path, key), *places(value, (*path, key)))]


@st.composite
def mutated(draw: st.DrawFn, *seeds: Any) -> Any:
    """One of the seeds with something changed, taken away, added or put elsewhere."""
    document = copy.deepcopy(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 3))):
        there = places(document)
        if not there:
            break
        *parents, last = draw(st.sampled_from(there))
        target = document
        for step in parents:
            target = target[step]
        match draw(st.sampled_from(["change", "change", "remove", "add", "wrap", "swap"])):
            case "change":
                target[last] = draw(values)
            case "remove":
                del target[last]
            case "add" if isinstance(target, dict):
                target[draw(keys)] = draw(values)
            case "add":
                target.append(draw(values))
            case "wrap":
                target[last] = draw(st.sampled_from([[target[last]], {"x": target[last]}]))
            case _:
                *_, other = draw(st.sampled_from(there))
                if isinstance(target, dict) and isinstance(other, str):
                    target[other] = target.pop(last)
    return document


def dumped(value: Any) -> bytes:
    """A value as JSON as Python writes it: NaN, half surrogates and long numbers included."""
    return json.dumps(value).encode()


POINTERS = [
    "",
    "/",
    "/id",
    "/type",
    "/properties",
    "/properties/datetime",
    "/properties/x:number",
    "/properties/new",
    "/properties/new/deeper",
    "/geometry",
    "/geometry/coordinates/0/0/0",
    "/geometry/coordinates/0/-",
    "/bbox/0",
    "/bbox/-",
    "/links",
    "/links/0",
    "/links/0/href",
    "/links/-",
    "/links/01",
    "/assets",
    "/assets/data",
    "/assets/data/href",
    "/stac_extensions/-",
    "/a~1b",
    "/a~2",
    "no",
    "/x" * 70,
]
pointers = st.sampled_from(POINTERS) | texts
operations = st.fixed_dictionaries(
    {
        "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "explode"]),
        "path": pointers,
    },
    optional={"from": pointers, "value": values},
)
json_patches = st.lists(operations | st.lists(operations, max_size=1) | scalars, max_size=5)
