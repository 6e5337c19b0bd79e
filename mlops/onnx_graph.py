"""Walks the graph of an ONNX model, subgraphs and local functions included.

Checks what onnx's own checker lets pass: external data, operators of unknown domains, and tensors
whose content does not fill their shape.
"""

import math
from collections.abc import Iterator
from typing import Any

from mlops.onnx_facts import OnnxFileError, OnnxTensor

_KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_EXTERNAL = 1  # TensorProto.DataLocation.EXTERNAL

_TYPES = {
    1: ("float32", 4),
    2: ("uint8", 1),
    3: ("int8", 1),
    4: ("uint16", 2),
    5: ("int16", 2),
    6: ("int32", 4),
    7: ("int64", 8),
    8: ("string", 0),
    9: ("bool", 1),
    10: ("float16", 2),
    11: ("float64", 8),
    12: ("uint32", 4),
    13: ("uint64", 8),
    14: ("cfloat32", 8),
    15: ("cfloat64", 16),
    16: ("bfloat16", 2),
}
"""TensorProto.DataType: its name, in the words of STAC's raster extension, and bytes an element."""


def refuse_external_data(model: Any) -> None:
    """Raise when any tensor lies in another file."""
    for tensor in tensors(model):
        if tensor.data_location == _EXTERNAL or tensor.external_data:
            raise OnnxFileError(
                f"tensor {tensor.name!r} lies in another file; export the model into a single "
                "file (external_data=False)"
            )


def refuse_unknown_domains(model: Any) -> None:
    """Raise when a node is neither of ONNX nor of a function that the model brings along."""
    local = {function.domain for function in model.functions}
    for node in nodes(model):
        if node.domain not in _KNOWN_DOMAINS and node.domain not in local:
            raise OnnxFileError(
                f"operator {node.op_type!r} is of domain {node.domain!r}, which ONNX does not "
                "define: no runtime is sure to have it"
            )


def refuse_bad_tensors(model: Any) -> None:
    """Raise when a tensor's content does not fill its shape."""
    for tensor in tensors(model):
        if any(length < 0 for length in tensor.dims):
            raise OnnxFileError(f"tensor {tensor.name!r} has a negative dimension")
        _, width = _TYPES.get(tensor.data_type, ("", 0))
        expected = math.prod(tensor.dims) * width
        if width and tensor.HasField("raw_data") and len(tensor.raw_data) != expected:
            raise OnnxFileError(
                f"tensor {tensor.name!r} holds {len(tensor.raw_data)} bytes where its shape "
                f"{list(tensor.dims)} needs {expected}"
            )


def inputs(model: Any) -> list[OnnxTensor]:
    """What a caller must give; old files name their weights as inputs too, which are left out."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [_described(value) for value in model.graph.input if value.name not in weights]


def outputs(model: Any) -> list[OnnxTensor]:
    """What the graph gives."""
    return [_described(value) for value in model.graph.output]


def nodes(model: Any) -> Iterator[Any]:
    """Every node, those of subgraphs and local functions included."""
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while waiting:
        node = waiting.pop()
        yield node
        for graph in _subgraphs(node):
            waiting.extend(graph.node)


def tensors(model: Any) -> Iterator[Any]:
    """Every tensor that the file holds, or says to lie elsewhere."""
    yield from _weights(model.graph)
    for node in nodes(model):
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
        for graph in _subgraphs(node):
            yield from _weights(graph)


def _weights(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)


def _subgraphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        yield from (attribute.g, *attribute.graphs)


def _described(value: Any) -> OnnxTensor:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        name = (kind or "unknown").removesuffix("_type")
        return OnnxTensor(name=value.name, shape=[], data_type=name)
    tensor = value.type.tensor_type
    name, _ = _TYPES.get(tensor.elem_type, (f"type-{tensor.elem_type}", 0))
    return OnnxTensor(
        name=value.name,
        shape=[_length(dimension) for dimension in tensor.shape.dim],
        data_type=name,
    )


def _length(dimension: Any) -> int:
    static = dimension.WhichOneof("value") == "dim_value" and dimension.dim_value >= 0
    return int(dimension.dim_value) if static else -1
