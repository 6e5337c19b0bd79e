"""A training run: what a client asks for and what the system writes back."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from mlops.items.ids import ID_RULE
from mlops.items.status import Status

Id = Annotated[str, StringConstraints(pattern=rf"^{ID_RULE}$")]

TASKS = Literal[
    "regression",
    "classification",
    "scene-classification",
    "detection",
    "object-detection",
    "segmentation",
    "semantic-segmentation",
    "instance-segmentation",
    "panoptic-segmentation",
    "similarity-search",
    "generative",
    "image-captioning",
    "super-resolution",
    "downscaling",
]


class Objective(BaseModel):
    """The metric that decides which epoch, and later which run, is best."""

    # Built when it is first used: a process that starts to answer reads does without.
    model_config = ConfigDict(extra="forbid", defer_build=True)

    metric: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    goal: Literal["maximize", "minimize"] = "maximize"


class Compute(BaseModel):
    """Where and how large a run's job is."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    engine: Literal["local", "sagemaker", "batch"] = "local"
    instance_type: str | None = None
    instance_count: Annotated[int, Field(ge=1, le=64)] = 1
    spot: bool = False
    max_runtime: Annotated[int, Field(ge=1, le=28 * 86400)] = 86400
    """Seconds after which the engine ends the job."""
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 1


class RunRequest(BaseModel):
    """The ``mlops:`` properties that a client posts; immutable once accepted."""

    model_config = ConfigDict(extra="ignore", defer_build=True, populate_by_name=True)

    model: Id = Field(alias="mlops:model")
    task: TASKS = Field(alias="mlops:task")
    framework: Literal["pytorch", "tensorflow", "scikit-learn", "xgboost", "lightgbm", "jax"] = (
        Field(default="pytorch", alias="mlops:framework")
    )
    recipe: Id | None = Field(default=None, alias="mlops:recipe")
    source: dict[str, Any] | None = Field(default=None, alias="mlops:source")
    hyperparameters: dict[str, Any] = Field(default_factory=dict, alias="mlops:hyperparameters")
    objective: Objective | None = Field(default=None, alias="mlops:objective")
    compute: Compute = Field(default_factory=Compute, alias="mlops:compute")

    @model_validator(mode="after")
    def _names_its_code(self) -> "RunRequest":
        if (self.recipe is None) == (self.source is None):
            raise ValueError("name exactly one of mlops:recipe (built in) and mlops:source (yours)")
        return self


ASKED = frozenset(
    {
        "mlops:model",
        "mlops:task",
        "mlops:framework",
        "mlops:recipe",
        "mlops:source",
        "mlops:hyperparameters",
        "mlops:objective",
        "mlops:compute",
        "mlops:base_model",
        "mlops:resume_from",
        "mlops:rerun_of",
        "mlops:requested_by",
    }
)
"""Properties that say what was asked, and by whom: immutable after acceptance."""


class Job(BaseModel):
    """The engine's job that a run's current attempt is."""

    engine: str
    id: str
    console: str | None = None


class Waiting(BaseModel):
    """Why a run has no job yet, and when its engine is asked again (RFC 3339)."""

    reason: str
    until: AwareDatetime


class Exit(BaseModel):
    """How a run ended: the job's exit code and one line a person can act on."""

    code: int | None = None
    reason: str


class Cost(BaseModel):
    """What a run used: billed seconds on an instance; an estimate only where a price is known."""

    seconds: float
    instance: str
    estimate: float | None = None
    currency: str | None = None


class RunRecord(BaseModel):
    """The ``mlops:`` properties that only the system writes."""

    model_config = ConfigDict(extra="ignore", defer_build=True, populate_by_name=True)

    status: Status = Field(default=Status.ACCEPTED, alias="mlops:status")
    progress: float = Field(default=0.0, ge=0, le=1, alias="mlops:progress")
    attempt: int = Field(default=1, ge=1, alias="mlops:attempt")
    job: Job | None = Field(default=None, alias="mlops:job")
    waiting: Waiting | None = Field(default=None, alias="mlops:waiting")
    metrics: dict[str, float] = Field(default_factory=dict, alias="mlops:metrics")
    objective_value: float | None = Field(default=None, alias="mlops:objective_value")
    started: str | None = Field(default=None, alias="mlops:started")
    finished: str | None = Field(default=None, alias="mlops:finished")
    exit: Exit | None = Field(default=None, alias="mlops:exit")
    environment: dict[str, Any] | None = Field(default=None, alias="mlops:environment")
    cost: Cost | None = Field(default=None, alias="mlops:cost")
    requested_by: str | None = Field(default=None, alias="mlops:requested_by")


MEASURED = frozenset(
    str(field.alias) for name, field in RunRecord.model_fields.items() if name != "status"
)
"""Properties that the system measured: writable by the system alone. Status has its own rules."""
