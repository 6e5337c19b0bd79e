"""A dataset version: what a client posts of it."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from mlops.items.training_run import Id
from mlops.jobs import Split

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Sha256Multihash = Annotated[str, StringConstraints(pattern=r"^1220[0-9a-f]{64}$")]


class SplitSize(BaseModel):
    """How large a split is."""

    # Built when it is first used: a process that starts to answer reads does without.
    model_config = ConfigDict(extra="forbid", defer_build=True)

    samples: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)] | None = None


class DatasetVersion(BaseModel):
    """The properties of a dataset version that the system relies on."""

    model_config = ConfigDict(extra="ignore", defer_build=True, populate_by_name=True)

    dataset: Id = Field(alias="mlops:dataset")
    samples: Annotated[int, Field(ge=1, alias="mlops:samples", strict=True)]
    manifest_digest: Sha256 = Field(alias="mlops:manifest_digest")
    splits: dict[Split, SplitSize] = Field(default_factory=dict, alias="mlops:splits")
    classes: list[dict[str, Any]] = Field(default_factory=list, alias="classification:classes")
    non_spatial: bool = Field(default=False, alias="mlops:non_spatial")


class ManifestAsset(BaseModel):
    """The asset that lists a version's samples."""

    model_config = ConfigDict(extra="ignore", defer_build=True, populate_by_name=True)

    href: Annotated[str, StringConstraints(min_length=1)]
    checksum: Sha256Multihash = Field(alias="file:checksum")
    size: Annotated[int, Field(ge=1, alias="file:size")]
