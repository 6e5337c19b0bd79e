"""What an untrusted ONNX file says of itself, and whether it is fit to be registered.

:func:`inspect` reads the file in a process of its own, with bounded memory and time, since a file
made to break the parser must not take its caller down. ``python -m mlops.onnx_file PATH`` does the
same by hand and prints JSON.
"""

import json
import math
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from mlops.items.model_description import ModelDescription, TensorDescription
from mlops.onnx_facts import OnnxFacts, OnnxFileError, OnnxTensor

__all__ = ["MAX_FILE_SIZE", "OnnxFacts", "OnnxFileError", "compare", "inspect"]

MAX_FILE_SIZE = 2 << 30
"""Bytes; protobuf itself cannot hold more, so a larger model has external data."""
_PARSER_MEMORY = 2 << 30
_SHOWN = 200


def inspect(path: Path, timeout: float = 120.0, memory_limit: int | None = None) -> OnnxFacts:
    """Check the ONNX file at ``path`` in another process.

    Args:
        timeout: seconds.
        memory_limit: address space of that process in bytes; by default as much as the parser
            needs for a file of this size.

    Raises:
        OnnxFileError: the file is not fit to be registered, or could not be read within the
            limits.
    """
    size = path.stat().st_size
    if size > MAX_FILE_SIZE:
        raise OnnxFileError(
            f"the file has {size} bytes; more than {MAX_FILE_SIZE} in one file is not supported"
        )
    memory = memory_limit or _PARSER_MEMORY + 4 * size
    command = [sys.executable, "-m", "mlops.onnx_file", str(path), str(memory), str(int(timeout))]
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        # Each thread of it would reserve address space, which the limit counts.
        "OPENBLAS_NUM_THREADS": "1",
    }
    try:
        ended = subprocess.run(
            command, env=environment, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise OnnxFileError(f"the file could not be read within {timeout:g} seconds") from error
    return _answer(ended, memory)


def compare(facts: OnnxFacts, description: ModelDescription) -> list[str]:
    """What the graph and the job's description of it say differently, a sentence each."""
    return [
        *_differences("input", facts.inputs, description.inputs),
        *_differences("output", facts.outputs, description.outputs),
    ]


def _answer(ended: "subprocess.CompletedProcess[bytes]", memory: int) -> OnnxFacts:
    if ended.returncode == 0:
        return OnnxFacts.model_validate_json(ended.stdout)
    if ended.returncode == 1 and ended.stdout:
        raise OnnxFileError(str(json.loads(ended.stdout)["error"]))
    if ended.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise OnnxFileError("the checker was ended: reading the file took too long or too much")
    if ended.returncode < 0:
        name = signal.Signals(-ended.returncode).name
        raise OnnxFileError(
            f"the checker crashed on the file ({name}), within a limit of {memory >> 20} MB"
        )
    lines = ended.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
    raise OnnxFileError(f"the checker failed on the file: {lines[-1][:_SHOWN]}")


def _differences(
    what: str, found: list[OnnxTensor], described: list[TensorDescription]
) -> list[str]:
    has = [tensor.name for tensor in found]
    says = [tensor.name for tensor in described]
    if sorted(has) != sorted(says):
        return [f"the graph's {what}s are {_names(has)}, but its description names {_names(says)}"]
    by_name = {tensor.name: tensor for tensor in found}
    return [
        difference
        for tensor in described
        for difference in _tensor_differences(what, by_name[tensor.name], tensor)
    ]


def _tensor_differences(what: str, found: OnnxTensor, described: TensorDescription) -> list[str]:
    title = f"{what} {found.name!r}"
    if found.data_type != described.data_type:
        yes, no = found.data_type, described.data_type
        return [f"{title} has data type {yes} in the graph and {no} in its description"]
    if len(described.dim_order) != len(described.shape):
        order, shape = described.dim_order, described.shape
        return [f"{title}: dim_order {order} does not name each dimension of shape {shape}"]
    same = len(found.shape) == len(described.shape) and all(
        -1 in (left, right) or left == right
        for left, right in zip(found.shape, described.shape, strict=True)
    )
    if not same:
        return [
            f"{title} has shape {found.shape} in the graph and {described.shape} in its description"
        ]
    return []


def _names(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"


def _limit(memory: int, seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _read(path: Path) -> OnnxFacts:
    """Check a file in this very process."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    from mlops import onnx_graph

    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise OnnxFileError("it is not an ONNX model, or it is cut off: it cannot be parsed") from (
            error
        )
    if not model.HasField("graph"):
        raise OnnxFileError("it is not an ONNX model: it has no graph")
    onnx_graph.refuse_external_data(model)
    onnx_graph.refuse_unknown_domains(model)
    onnx_graph.refuse_bad_tensors(model)
    try:
        onnx.checker.check_model(path)
    except onnx.checker.ValidationError as error:
        raise OnnxFileError(_first_line(error)) from error
    inputs, outputs = onnx_graph.inputs(model), onnx_graph.outputs(model)
    domains = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    fixed = [tensor.name for tensor in inputs if tensor.shape and tensor.shape[0] != -1]
    return OnnxFacts(
        size=path.stat().st_size,
        ir_version=model.ir_version,
        opset=domains.get("ai.onnx", 0),
        domains=domains,
        inputs=inputs,
        outputs=outputs,
        parameters=sum(math.prod(tensor.dims) for tensor in model.graph.initializer),
        producer=f"{model.producer_name} {model.producer_version}".strip()[:_SHOWN],
        metadata={
            entry.key[:_SHOWN]: entry.value[:_SHOWN] for entry in model.metadata_props[:_SHOWN]
        },
        checker=f"onnx {onnx.__version__}",
        notes=[f"input {name!r}: the first axis is fixed, so it is no batch" for name in fixed],
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else "it is not valid")[: 2 * _SHOWN]


def main(arguments: list[str]) -> int:
    """Print what a file says of itself, or ``{"error": ...}`` and exit with 1."""
    path, *limits = arguments
    try:
        if limits:
            _limit(int(limits[0]), int(limits[1]))
            answer: dict[str, Any] = _read(Path(path)).model_dump()
        else:
            answer = inspect(Path(path)).model_dump()
    except (OnnxFileError, OSError) as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": "reading the file needs more memory than it may take"}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
