"""The job document: all that a training job is told, whatever the engine.

Secrets are not in it: the token of the run comes in the environment (``MLOPS_RUN_TOKEN``), or lies
beside the document (``token``) where an engine shows a job's environment to others.
"""

from enum import IntEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

JOB_DOCUMENT_ENV = "MLOPS_JOB"
RUN_TOKEN_ENV = "MLOPS_RUN_TOKEN"  # noqa: S105 - the name of a variable, not its value


class ExitCode(IntEnum):
    """How a training job ends."""

    DONE = 0
    USER_CODE_FAILED = 1
    BAD_INPUT = 2
    """The job document or the data are not as they should be."""
    PLATFORM_FAULT = 3
    """Not the user's doing; may be retried."""


Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class JobDataset(BaseModel):
    """One dataset version that a job trains on.

    ``split`` is set where the run's link names one (``ml-aoi:split``): that channel is then filled
    from the datasets of such links only. A channel that no link names is filled from the splits of
    all the datasets.
    """

    # Built when it is first used: a process that starts to answer reads does without.
    model_config = ConfigDict(extra="forbid", defer_build=True)

    collection: str
    item: str
    split: Split | None = None
    manifest_key: str
    """Key of the Parquet manifest in the object store."""
    manifest_sha256: str
    classes: list[dict[str, Any]] = Field(default_factory=list)
    """``classification:classes`` of the dataset item."""


class JobDocument(BaseModel):
    """What ``python -m training.job`` reads."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    format: Literal[1] = 1
    name: str
    workspace: str
    collection: str
    item: str
    attempt: int
    api_url: str
    api_signed: bool = False
    """Whether the API's door takes requests signed with SigV4 (:mod:`mlops.signing`) only."""
    storage_url: str
    output_prefix: str
    """Key prefix in the object store under which the job puts all it makes."""
    model: str
    task: str
    framework: str
    recipe: str
    hyperparameters: dict[str, Any]
    objective_metric: str
    objective_goal: Literal["maximize", "minimize"]
    datasets: list[JobDataset]
    max_runtime: int
    request_id: str | None = None
    """Of the request that asked for the run: the job's own requests and log carry it on."""


class RunOutcome(BaseModel):
    """What a job reports when it ends: ``outcome.json`` under its output prefix.

    The job also patches what it measured onto the run; the file is what ``register_model`` trusts,
    because it names each output by checksum.
    """

    model_config = ConfigDict(extra="forbid", defer_build=True)

    exit_code: int
    reason: str
    metrics: dict[str, float] = Field(default_factory=dict)
    outputs: dict[str, "OutputFile"] = Field(default_factory=dict)
    """By asset key: ``model``, ``model_description``, ``native``, ``log``, ``metrics``, ..."""
    environment: dict[str, Any] = Field(default_factory=dict)


class OutputFile(BaseModel):
    """A file that a job uploaded."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    key: str
    size: int
    sha256: str
    media_type: str
    title: str
