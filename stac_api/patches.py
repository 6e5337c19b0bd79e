"""Patches: JSON Merge Patch (RFC 7396) and JSON Patch (RFC 6902).

Every fault of a JSON Patch points to its operation, and what ``copy`` may make of a document is
bounded.
"""

import copy
import re
from collections.abc import Callable
from typing import Any

import orjson

from stac_api.documents import Document, too_large
from stac_api.problems import Fault, Problem, invalid, pointer
from stac_api.strict_json import MAX_DEPTH, check_depth, equal_json

_MAX_OPERATIONS = 1000
_BAD_ESCAPE = re.compile(r"~(?![01])")
_MEMBERS = {
    "add": ("path", "value"),
    "remove": ("path",),
    "replace": ("path", "value"),
    "move": ("from", "path"),
    "copy": ("from", "path"),
    "test": ("path", "value"),
}


def patching(patch: Any, limit: int, *, is_json_patch: bool) -> Callable[[Document], Document]:
    """What applies a patch, and refuses to let a document grow beyond ``limit`` bytes."""
    if is_json_patch:
        _check_operations(patch)
    elif not isinstance(patch, dict):
        raise invalid("A merge patch must be a JSON object.", status=400)

    def apply(target: Document) -> Document:
        result = apply_json_patch(target, patch, limit) if is_json_patch else merge(target, patch)
        check_depth(result)
        # With the server's own links it may be larger than what was accepted.
        if limit < len(orjson.dumps(result)) > len(orjson.dumps(target)):
            raise too_large("patched document", limit)
        return result

    return apply


def merge(target: Any, patch: Any) -> Any:
    """JSON Merge Patch, RFC 7396, section 2; ``target`` is not changed."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def apply_json_patch(target: Document, operations: Any, limit: int) -> Document:
    """JSON Patch; a failing ``test`` is 409, what cannot be applied 422; at most ``limit`` bytes.

    ``target`` is not changed.
    """
    _check_operations(operations)
    result: Any = copy.deepcopy(target)
    # Only copies make a document grow faster than its patch, and nothing else deeper than it is
    # by more than a path; both are watched by what is carried about in all.
    carried = len(orjson.dumps(target))
    for index, operation in enumerate(operations):
        try:
            if operation["op"] in ("copy", "move"):
                value = _read(result, _steps(operation["from"]), "from")
                carried += len(orjson.dumps(value))
                if carried > limit:
                    raise too_large("document that the patch makes", limit)
                check_depth(value)
            result = _apply(result, operation)
        except _Refusal as refusal:
            raise refusal.problem(index) from refusal
    if not isinstance(result, dict):
        raise invalid("The JSON Patch would leave something that is no JSON object.")
    return result


class _Refusal(Exception):
    """An operation cannot be applied."""

    def __init__(self, member: str, detail: str, status: int = 422) -> None:
        super().__init__(detail)
        self.member = member
        self.detail = detail
        self.status = status

    def problem(self, index: int) -> Problem:
        fault = Fault(pointer(index, self.member), self.detail)
        said = (
            "The patch's test failed" if self.status == 409 else "The JSON Patch cannot be applied"
        )
        return Problem(self.status, f"{said}: operation {index} {self.detail}.", [fault])


def _check_operations(operations: Any) -> None:
    if not isinstance(operations, list):
        raise invalid("A JSON Patch is an array of operations.", status=400)
    if len(operations) > _MAX_OPERATIONS:
        detail = f"A JSON Patch has at most {_MAX_OPERATIONS} operations."
        raise invalid(detail, status=413)
    faults = []
    for index, operation in enumerate(operations):
        if not isinstance(operation, dict):
            faults.append(Fault(pointer(index), "must be an object"))
            continue
        name = operation.get("op")
        members = _MEMBERS.get(name) if isinstance(name, str) else None
        if members is None:
            faults.append(Fault(pointer(index, "op"), f"must be one of {', '.join(_MEMBERS)}"))
            continue
        for member in members:
            value = operation.get(member)
            if member not in operation:
                faults.append(Fault(pointer(index, member), f"is needed by {name}"))
            elif member != "value" and not _is_pointer(value):
                detail = f"must be a JSON Pointer of at most {MAX_DEPTH} steps"
                faults.append(Fault(pointer(index, member), detail))
    if faults:
        raise invalid("The JSON Patch is malformed.", *faults, status=400)


def _is_pointer(value: Any) -> bool:
    if not isinstance(value, str) or value.count("/") > MAX_DEPTH:
        return False
    return (not value or value.startswith("/")) and not _BAD_ESCAPE.search(value)


def _apply(document: Any, operation: Document) -> Any:
    steps = _steps(operation["path"])
    match operation["op"]:
        case "add":
            return _add(document, steps, copy.deepcopy(operation["value"]))
        case "remove":
            return _remove(document, steps)
        case "replace":
            _read(document, steps)
            return _put(document, steps, copy.deepcopy(operation["value"]))
        case "copy":
            return _add(document, steps, copy.deepcopy(_read(document, _steps(operation["from"]))))
        case "move":
            return _move(document, _steps(operation["from"]), steps)
        case _:
            if not equal_json(_read(document, steps), operation["value"]):
                raise _Refusal("path", f"finds another value at {operation['path'][:200]}", 409)
            return document


def _move(document: Any, source: list[str], target: list[str]) -> Any:
    if source == target:
        return document
    if target[: len(source)] == source:
        raise _Refusal("path", "moves a value into itself")
    value = _read(document, source, "from")
    return _add(_remove(document, source), target, value)


def _steps(path: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]


def _read(document: Any, steps: list[str], member: str = "path") -> Any:
    for step in steps:
        if isinstance(document, dict) and step in document:
            document = document[step]
        elif isinstance(document, list):
            document = document[_index(document, step, member)]
        else:
            raise _Refusal(member, f"names {step[:200]!r}, which is not there")
    return document


def _add(document: Any, steps: list[str], value: Any) -> Any:
    if not steps:
        return value
    parent, last = _read(document, steps[:-1]), steps[-1]
    if isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _index(parent, last, end=1), value)
    elif isinstance(parent, dict):
        parent[last] = value
    else:
        raise _Refusal("path", f"names {last[:200]!r} in what is neither object nor array")
    return document


def _put(document: Any, steps: list[str], value: Any) -> Any:
    if not steps:
        return value
    parent, last = _read(document, steps[:-1]), steps[-1]
    parent[_index(parent, last) if isinstance(parent, list) else last] = value
    return document


def _remove(document: Any, steps: list[str]) -> Any:
    if not steps:
        raise _Refusal("path", "removes the whole document")
    _read(document, steps)
    parent, last = _read(document, steps[:-1]), steps[-1]
    del parent[_index(parent, last) if isinstance(parent, list) else last]
    return document


def _index(array: list[Any], step: str, member: str = "path", end: int = 0) -> int:
    is_index = step.isascii() and step.isdigit() and (step == "0" or step[0] != "0")
    if not is_index or len(step) > 9 or int(step) >= len(array) + end:
        raise _Refusal(member, f"names element {step[:200]!r} of an array of {len(array)}")
    return int(step)
