"""Settings of the engines that are services of AWS; the template writes them as JSON.

A template cannot leave a field out where a parameter is empty, so empty texts count as not given,
and lists may come as comma-separated text.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.functional_validators import BeforeValidator


class EngineSettingsError(Exception):
    """The engines' settings are missing or not valid; the message says which."""


def _list(value: object) -> object:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list):
        return parts
    return [part.strip() if isinstance(part, str) else part for part in parts if part != ""]


def _without_empty(value: object) -> object:
    if not isinstance(value, dict):
        return value
    return {name: text for name, text in value.items() if text != ""}


TextList = Annotated[list[str], BeforeValidator(_list)]
TextMap = Annotated[dict[str, str], BeforeValidator(_without_empty)]


class CloudEngineSettings(BaseModel):
    """What both engines of AWS have in common: limits, tags, the table of instance types."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_runtime: Annotated[int, Field(ge=60, le=28 * 86400)] = 5 * 86400
    """Longest ``mlops:compute.max_runtime`` that is accepted, in seconds."""
    max_instance_count: Annotated[int, Field(ge=1, le=64)] = 8
    """Most machines that one run may ask for."""
    max_instance_hours: Annotated[float, Field(gt=0)] | None = None
    """Most hours times machines that one attempt of a run may take; no such limit when left out."""
    max_cost: Annotated[float, Field(gt=0)] | None = None
    """Most that one attempt may cost at full length, in the currency of the table of instance
    types; runs on a type that has no price there are refused then."""
    instance_types: str | None = None
    """The table of instance types, if not the one that comes along: a path, or ``s3://...``."""
    tags: TextMap = Field(default_factory=dict)
    """Tags of every job, beside its workspace, run and requester."""

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, values: Any) -> Any:
        return _without_empty(values)


class SageMakerSettings(CloudEngineSettings):
    """Settings of :class:`~mlops.engines.sagemaker.SageMakerEngine`."""

    role: str
    """ARN of the role that training jobs take on."""
    images: TextMap
    """URI of the training image, by framework."""
    subnets: TextList = Field(default_factory=list)
    """Subnets that jobs run in; SageMaker's own network where there are none."""
    security_groups: TextList = Field(default_factory=list)
    kms_key: str | None = None
    """ARN of the key that encrypts the volumes and outputs of jobs."""
    volume_gb: Annotated[int, Field(ge=1, le=16384)] = 100
    """Disk of each machine, in GB."""
    default_instance_type: str = "ml.g5.xlarge"
    """What a run gets that names none."""
    spot_wait_seconds: Annotated[int, Field(ge=0, le=28 * 86400)] = 4 * 3600
    """How long a spot job may wait for capacity, beside the time that it may run."""
    encrypt_traffic: bool = False
    """Whether traffic between the machines of one job is encrypted; takes longer."""

    @model_validator(mode="after")
    def _whole_network(self) -> "SageMakerSettings":
        if bool(self.subnets) != bool(self.security_groups):
            raise ValueError("give subnets and security_groups together, or neither")
        return self


class BatchQueues(BaseModel):
    """Names or ARNs of the job queues; what is not there is not offered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpu: str | None = None
    """On-demand machines with GPUs."""
    gpu_spot: str | None = None
    """Spot machines with GPUs, on-demand ones where there is no spot capacity."""
    cpu: str | None = None
    """Machines without GPUs."""

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, values: Any) -> Any:
        return _without_empty(values)


class BatchSettings(CloudEngineSettings):
    """Settings of :class:`~mlops.engines.batch.BatchEngine`."""

    queues: BatchQueues
    job_definitions: TextMap
    """Job definition, by framework: an ARN with revision, or a name for its newest revision."""
    multi_node_job_definitions: TextMap = Field(default_factory=dict)
    """Job definition of type multinode, by framework."""
    default_instance_type: str = "g5.xlarge"
    """What a run gets that names none: a job asks for the GPUs, vCPUs and memory of this type."""
    spot_retries: Annotated[int, Field(ge=0, le=9)] = 5
    """How often Batch itself starts a job again whose spot machine was taken."""
    claim_seconds: Annotated[float, Field(gt=0)] = 300
    """After which whoever began to submit a job and did not finish is dead for sure: longer than
    a function may run."""
