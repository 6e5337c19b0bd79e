"""PyTorch to ONNX, and the proof that both give the same."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import nn

from mlops.items.model_description import Parity

TOLERANCE = 1e-4
# Relative to a magnitude below this an error says nothing: float32 itself is no finer there.
_SMALLEST = 1e-6
_PARITY_BATCH = 1024
_TALKATIVE = ("onnxscript", "torch.onnx._internal.exporter._registration")

Array = npt.NDArray[np.float32]


class ParityError(Exception):
    """The ONNX model does not give what the native model gives."""


@dataclass(frozen=True)
class Exported:
    """An ONNX file that passed onnx's checker."""

    path: Path
    opset: int
    exporter: str = "torch.onnx.export"


def export_onnx(
    model: nn.Module,
    example: torch.Tensor,
    path: Path,
    *,
    input_name: str,
    output_name: str,
    dynamic_axes: dict[int, str],
) -> Exported:
    """Write ``model`` as one self-contained ONNX file.

    ``example`` is an input on the CPU, of at least two along each dynamic axis (a size of one is
    taken for a constant); ``dynamic_axes`` names the axes of input and output that may have any
    size, for example ``{0: "batch"}``. The model is set to evaluation, where dropout does nothing
    and batch normalisation keeps its statistics. Paths of source files, which the exporter notes
    on every node, are removed.
    """
    model = model.cpu().eval()
    axes = dict.fromkeys(dynamic_axes, torch.export.Dim.DYNAMIC)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            dynamic_shapes=(axes,),
            input_names=[input_name],
            output_names=[output_name],
            external_data=False,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    _clear_origin(proto)
    for value in (*proto.graph.input, *proto.graph.output):
        for axis, name in dynamic_axes.items():
            value.type.tensor_type.shape.dim[axis].dim_param = name
    onnx.save(proto, path)
    onnx.checker.check_model(str(path), full_check=True)
    opset = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    return Exported(path, int(opset))


def check_parity(
    exported: Exported, model: nn.Module, inputs: Array, tolerance: float = TOLERANCE
) -> Parity:
    """Compare ONNX Runtime with the native model on ``inputs``, first axis samples.

    Passed when ``|onnx - native| <= tolerance * (1 + |native|)`` everywhere. One batch of a single
    sample is among those compared, so that an axis fixed by the export is found. Raises
    :class:`ParityError` with the errors found when it is not passed.
    """
    model = model.cpu().eval()
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    largest, relative, passed = 0.0, 0.0, True
    for batch in _batches(inputs):
        with torch.no_grad():
            native = model(torch.from_numpy(batch)).numpy()
        result = session.run(None, {name: batch})[0]
        if result.shape != native.shape or not np.isfinite(result).all():
            raise ParityError(
                f"the ONNX model gives {_shown(result)} where the native model gives "
                f"{_shown(native)}: it cannot be registered"
            )
        error = np.abs(result - native)
        largest = max(largest, float(error.max()))
        relative = max(relative, float((error / np.maximum(np.abs(native), _SMALLEST)).max()))
        passed = passed and bool((error <= tolerance * (1 + np.abs(native))).all())
    if not passed:
        raise ParityError(
            f"the ONNX model differs from the native model by up to {largest:.3g} "
            f"(relative {relative:.3g}) on {len(inputs)} held-out samples; "
            f"{tolerance:g} is tolerated"
        )
    return Parity(
        samples=len(inputs),
        max_absolute_error=largest,
        max_relative_error=relative,
        tolerance=tolerance,
        passed=True,
    )


def parameter_count(model: nn.Module) -> int:
    """How many numbers the model learned."""
    return sum(parameter.numel() for parameter in model.parameters())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's words about its own insides out of the user's log; errors stay."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _batches(inputs: Array) -> Iterator[Array]:
    yield inputs[:1]
    for start in range(1, len(inputs), _PARITY_BATCH):
        yield inputs[start : start + _PARITY_BATCH]


def _shown(result: npt.NDArray[Any]) -> str:
    finite = "finite" if np.isfinite(result).all() else "not finite"
    return f"{finite} values of shape {list(result.shape)}"


def _clear_origin(proto: onnx.ModelProto) -> None:
    """Remove what the exporter notes of the machine: source paths and stack traces."""
    del proto.metadata_props[:]
    proto.doc_string = ""
    for function in proto.functions:
        del function.metadata_props[:]
        _clear_nodes(function.node)
        for value in function.value_info:
            del value.metadata_props[:]
    _clear_graph(proto.graph)


def _clear_graph(graph: onnx.GraphProto) -> None:
    del graph.metadata_props[:]
    graph.doc_string = ""
    for entry in (*graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del entry.metadata_props[:]
        entry.doc_string = ""
    _clear_nodes(graph.node)


def _clear_nodes(nodes: Any) -> None:
    for node in nodes:
        del node.metadata_props[:]
        node.doc_string = ""
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _clear_graph(attribute.g)
