"""A model version: what is demanded of its properties beside what its extensions say."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from mlops.items.training_run import Id


class Tensor(BaseModel):
    """The shape of an input or output; ``dim_order`` names each dimension of ``shape``."""

    # Built when it is first used: a process that starts to answer reads does without.
    model_config = ConfigDict(extra="ignore", defer_build=True)

    shape: Annotated[list[int], Field(min_length=1)]
    dim_order: Annotated[list[str], Field(min_length=1)]
    data_type: str

    @model_validator(mode="after")
    def _names_every_dimension(self) -> "Tensor":
        # mlm's schema cannot say this.
        if len(self.shape) != len(self.dim_order):
            raise ValueError("shape and dim_order must be of one length")
        return self


class ModelInput(BaseModel):
    """One entry of ``mlm:input``."""

    model_config = ConfigDict(extra="ignore", defer_build=True)

    name: Annotated[str, StringConstraints(min_length=1)]
    input: Tensor


class ModelOutput(BaseModel):
    """One entry of ``mlm:output``."""

    model_config = ConfigDict(extra="ignore", defer_build=True)

    name: Annotated[str, StringConstraints(min_length=1)]
    tasks: list[str]
    result: Tensor


class ModelVersion(BaseModel):
    """The properties of a model version that the system relies on."""

    model_config = ConfigDict(extra="ignore", defer_build=True, populate_by_name=True)

    model: Id = Field(alias="mlops:model")
    name: Id = Field(alias="mlm:name")
    architecture: Annotated[str, StringConstraints(min_length=1)] = Field(alias="mlm:architecture")
    inputs: Annotated[list[ModelInput], Field(min_length=1, alias="mlm:input")]
    outputs: Annotated[list[ModelOutput], Field(min_length=1, alias="mlm:output")]
    onnx: dict[str, Any] = Field(alias="mlops:onnx")
