"""What a checked ONNX file says of itself, and the error of one that is not fit."""

from pydantic import BaseModel, ConfigDict


class OnnxFileError(Exception):
    """The file is not fit to be registered; the message says why."""


class OnnxTensor(BaseModel):
    """An input or output of the graph; ``shape`` holds -1 where a dimension is dynamic.

    ``data_type`` is NumPy's name of it; for what is no tensor, ``sequence``, ``map`` or the like.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    shape: list[int]
    data_type: str


class OnnxFacts(BaseModel):
    """What a checked ONNX file says of itself."""

    model_config = ConfigDict(extra="forbid")

    size: int
    ir_version: int
    opset: int
    domains: dict[str, int]
    """Version of each operator set, the default one as ``ai.onnx``."""
    inputs: list[OnnxTensor]
    outputs: list[OnnxTensor]
    parameters: int
    producer: str
    metadata: dict[str, str]
    checker: str
    """Which checker passed it, for example ``onnx 1.19.0``."""
    notes: list[str]
    """What is worth knowing but no reason to refuse the file."""
