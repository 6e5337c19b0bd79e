"""The quick look at a JSON text finds all that the slow one refuses."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stac_api import strict_json
from stac_api.problems import Problem

FRAGMENTS = [*'{}[]":,\\ue0123456789.truefalsn -+E\x00', '"a":1', "1e99", "1e400", "\\u0000"]
texts = st.text(max_size=8) | st.sampled_from(
    ["\\", '"', '\\":', 'a":', "\ue000", "e", "true", "{"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.just(10**18),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def check(body: bytes) -> None:
    known_good, quick = strict_json._parse_quickly(body)
    try:
        slow = strict_json._parse_slowly(body)
    except Problem:
        assert not known_good
    else:
        assert not known_good or repr(quick) == repr(slow)


@settings(max_examples=500, derandomize=True, database=None, deadline=None)
@given(value=values, ascii_only=st.booleans())
def test_of_json(value: Any, ascii_only: bool) -> None:
    check(json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"))


@settings(max_examples=500, derandomize=True, database=None, deadline=None)
@given(parts=st.lists(st.sampled_from(FRAGMENTS), max_size=14))
def test_of_what_looks_like_json(parts: list[str]) -> None:
    check("".join(parts).encode())


def test_of_a_key_that_is_there_twice() -> None:
    for text in (
        '{"a":1,"a":2}',
        '{"a\\":":1,"a\\":":1}',
        '{"a":"\\":","a":1}',
        '{"\\u0061":1,"a":1}',
    ):
        assert not strict_json._parse_quickly(text.encode())[0]
