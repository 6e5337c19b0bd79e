"""A model's properties of the ``mlm`` extension, as version 1.5.2 of its schema allows them."""

import re
from typing import Any

from mlops.items.model_description import ModelClass, ModelDescription, TensorDescription

_NAME = re.compile(r"\A[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]\Z")
_SEMVER = re.compile(r"\A(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
_HYPERPARAMETER = re.compile(r"\A[0-9a-zA-Z_.-]+\Z")
_COLOR = re.compile(r"\A[0-9A-Fa-f]{6}\Z")
_DATA_TYPES = frozenset(
    {
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "cfloat32", "cfloat64"),
    }
)


def mlm_properties(
    run: dict[str, Any], described: ModelDescription, memory_size: int
) -> dict[str, Any]:
    """The ``mlm:`` properties of a model.

    Args:
        run: properties of the run that made it.
        memory_size: bytes that the loaded model takes.
    """
    task = run["mlops:task"]
    properties: dict[str, Any] = {
        "mlm:name": _mlm_name(run["mlops:model"]),
        "mlm:architecture": described.architecture,
        "mlm:tasks": [task],
        "mlm:framework": described.framework,
        "mlm:total_parameters": described.total_parameters,
        "mlm:memory_size": memory_size,
        "mlm:input": [_input(tensor) for tensor in described.inputs],
        "mlm:output": [_output(tensor, task, described.classes) for tensor in described.outputs],
        "mlm:hyperparameters": _hyperparameters(run, described),
    }
    if version := _SEMVER.match(described.framework_version):
        properties["mlm:framework_version"] = version.group()
    if described.accelerator is not None:
        properties["mlm:accelerator"] = described.accelerator
        # ONNX Runtime runs it on any processor.
        properties["mlm:accelerator_constrained"] = False
    return properties


def bands_of(description: ModelDescription) -> list[dict[str, str]]:
    """STAC's ``bands`` of all that a model takes in, once each; ``mlm:input`` refers to them."""
    names = [band for tensor in description.inputs for band in _input(tensor).get("bands", [])]
    return [{"name": name} for name in dict.fromkeys(names)]


def _input(tensor: TensorDescription) -> dict[str, Any]:
    order = _dim_order(tensor)
    entry: dict[str, Any] = {"name": tensor.name}
    if tensor.bands and "bands" in order:
        entry["bands"] = tensor.bands
    if tensor.description:
        entry["description"] = tensor.description
    structure = {"shape": tensor.shape, "dim_order": order, "data_type": _data_type(tensor)}
    return {**entry, "input": structure}


def _output(tensor: TensorDescription, task: str, classes: list[ModelClass]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": tensor.name,
        "tasks": [task],
        "result": {
            "shape": tensor.shape,
            "dim_order": _dim_order(tensor, bands="channel"),
            "data_type": _data_type(tensor),
        },
    }
    if tensor.description:
        entry["description"] = tensor.description
    if classes:
        entry["classification:classes"] = [_class(one) for one in classes]
    return entry


def _class(one: ModelClass) -> dict[str, Any]:
    entry = {"value": one.value, "name": one.name, "description": one.name}
    color = (one.color_hint or "").removeprefix("#")
    return {**entry, "color_hint": color} if _COLOR.match(color) else entry


def _dim_order(tensor: TensorDescription, bands: str | None = None) -> list[str]:
    """The names of the axes as ``mlm`` allows them: small letters, and "bands" only with bands."""
    other = bands or ("bands" if tensor.bands else "channel")
    names = [re.sub("[^a-z_-]+", "-", name.lower()).strip("-") for name in tensor.dim_order]
    return [other if name == "bands" else name or "axis" for name in names]


def _hyperparameters(run: dict[str, Any], described: ModelDescription) -> dict[str, Any]:
    asked = described.hyperparameters or run.get("mlops:hyperparameters") or {}
    allowed = {name: value for name, value in asked.items() if _HYPERPARAMETER.match(name)}
    # mlm wants at least one; the recipe is what else decides the outcome.
    return allowed or {"recipe": run.get("mlops:recipe") or "own"}


def _mlm_name(model: str) -> str:
    return model if _NAME.match(model) else f"model-{model}".rstrip("._-")


def _data_type(tensor: TensorDescription) -> str:
    return tensor.data_type if tensor.data_type in _DATA_TYPES else "other"
