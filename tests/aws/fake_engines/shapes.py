"""Requests and answers are held against AWS's own description of its API, as botocore has it."""

import re
from functools import cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape

from tests.aws.fake_engines.faults import AwsError


@cache
def service(name: str) -> ServiceModel:
    """AWS's description of a service."""
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)


def check_request(name: str, operation: str, request: dict[str, Any], code: str) -> None:
    """Refuse, under the error ``code``, what AWS's description does not allow."""
    shape = service(name).operation_model(operation).input_shape
    found = list(_faults(shape, request, ""))
    if found:
        noun = "error" if len(found) == 1 else "errors"
        raise AwsError(code, f"{len(found)} validation {noun} detected: {'; '.join(found)}")


def check_answer(name: str, operation: str, answer: dict[str, Any]) -> None:
    """A fake must not say what AWS could not say."""
    shape = service(name).operation_model(operation).output_shape
    found = list(_faults(shape, answer, "", answering=True))
    if found:
        raise AssertionError(f"the fake's answer to {operation} is not AWS's: {found}")


def _faults(shape: Shape | None, value: Any, path: str, *, answering: bool = False) -> Any:
    if shape is None:
        return
    kind = shape.type_name
    if kind == "structure":
        yield from _structure_faults(shape, value, path, answering)
    elif kind == "list":
        yield from _size_faults(shape, len(value), path)
        for index, member in enumerate(value):
            yield from _faults(shape.member, member, f"{path}.{index + 1}", answering=answering)
    elif kind == "map":
        for name, member in value.items():
            yield from _faults(shape.key, name, f"{path}.key", answering=answering)
            yield from _faults(shape.value, member, f"{path}.{name}", answering=answering)
    elif kind == "string":
        yield from _string_faults(shape, value, path)
    elif kind in ("integer", "long", "float", "double"):
        yield from _size_faults(shape, value, path)


def _structure_faults(shape: Any, value: Any, path: str, answering: bool) -> Any:
    if not isinstance(value, dict):
        yield f"Value at '{path}' must be a structure"
        return
    for name in value.keys() - shape.members.keys():
        yield f"'{path}.{name}' is not known"
    if not answering:
        for name in set(shape.required_members) - value.keys():
            yield f"Value null at '{path}.{name}': Member must not be null"
    for name, member in shape.members.items():
        if value.get(name) is not None:
            yield from _faults(member, value[name], f"{path}.{name}", answering=answering)


def _string_faults(shape: Any, value: Any, path: str) -> Any:
    if not isinstance(value, str):
        yield f"Value at '{path}' must be a string"
        return
    said = f"Value '{value}' at '{path}' failed to satisfy constraint"
    if shape.enum and value not in shape.enum:
        yield f"{said}: Member must satisfy enum value set: {sorted(shape.enum)[:5]}..."
    pattern = shape.metadata.get("pattern")
    if pattern and not re.fullmatch(_python_pattern(pattern), value):
        yield f"{said}: Member must satisfy regular expression pattern: {pattern}"
    yield from _size_faults(shape, len(value), path)


def _size_faults(shape: Any, size: float, path: str) -> Any:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and size < float(least):
        yield f"Value at '{path}' failed to satisfy constraint: at least {least}"
    if most is not None and size > float(most):
        yield f"Value at '{path}' failed to satisfy constraint: at most {most}"


def _python_pattern(pattern: str) -> str:
    for java, python in (("\\p{L}", "A-Za-z\u00c0-\u024f"), ("\\p{Z}", " "), ("\\p{N}", "0-9")):
        pattern = pattern.replace(java, python)
    return pattern
