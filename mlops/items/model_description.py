"""What a training job says of the model it made; ``register_model`` makes the Item from it.

The job writes it as ``model.json`` beside ``model.onnx``.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

DESCRIPTION_FILE = "model.json"
ONNX_FILE = "model.onnx"


class ModelClass(BaseModel):
    """One class of a classifier: its value in the labels and its index in the model's output."""

    model_config = ConfigDict(extra="forbid")

    value: int
    name: str
    color_hint: str | None = None


class TensorDescription(BaseModel):
    """A tensor of the graph. ``shape`` holds -1 where a dimension is dynamic."""

    model_config = ConfigDict(extra="forbid")

    name: str
    shape: list[int]
    dim_order: list[str]
    data_type: str = "float32"
    description: str
    bands: list[str] = Field(default_factory=list)


class Parity(BaseModel):
    """How far ONNX Runtime's outputs lie from the native model's on held-out samples."""

    model_config = ConfigDict(extra="forbid")

    samples: int
    max_absolute_error: float
    max_relative_error: float
    tolerance: float
    passed: bool


class ModelDescription(BaseModel):
    """Everything about a trained model that the run item does not say."""

    model_config = ConfigDict(extra="forbid")

    architecture: str
    learning_approach: Literal["supervised", "unsupervised", "semi-supervised", "self-supervised"]
    prediction_type: str
    framework: str
    """As ``mlm`` spells it, for example ``PyTorch``."""
    framework_version: str
    """Semantic version, no local build tag."""
    total_parameters: int
    inputs: list[TensorDescription] = Field(min_length=1)
    outputs: list[TensorDescription] = Field(min_length=1)
    classes: list[ModelClass] = Field(default_factory=list)
    """In the order of the model's output."""
    hyperparameters: dict[str, Any]
    """The values in effect, defaults included."""
    opset: int
    exporter: str
    """For example ``torch.onnx.export``."""
    parity: Parity
    accelerator: Literal["amd64", "cuda", "macos-arm"] | None = None
    software: dict[str, str] = Field(default_factory=dict)
    native_file: str | None = None
    """Name of the framework's own weights beside the ONNX file."""
