"""What the engines of AWS do alike with a job: its limits, its files in the store, its tags."""

import re
from dataclasses import replace

from mlops.engines import EngineRefusedError, JobSpec, JobState
from mlops.engines.cloud_settings import CloudEngineSettings
from mlops.engines.instance_types import EngineName, InstanceType, InstanceTypes
from mlops.jobs import RUN_TOKEN_ENV
from mlops.storage import keys
from mlops.storage.s3 import S3Store, key_url

_HOUR = 3600
_MOST_TAGS = 50
_TAG_VALUE = 256
# Both services take letters, digits, spaces and these; what else a name may hold becomes "_".
_NOT_IN_TAGS = re.compile(r"[^\w .:/=+\-@]")


def check_limits(
    job: JobSpec,
    settings: CloudEngineSettings,
    types: InstanceTypes,
    engine: EngineName,
    default_type: str,
) -> tuple[str, InstanceType]:
    """The machine that ``job`` gets: its plain name and its type.

    Raises:
        EngineRefusedError: the deployment does not allow such a job, or has no such machine.
    """
    plain, machine = types.find(job.instance_type or default_type, engine)
    if job.max_runtime > settings.max_runtime:
        raise EngineRefusedError(
            f"The run may take {job.max_runtime} seconds, and this deployment allows "
            f"{settings.max_runtime}: lower mlops:compute.max_runtime."
        )
    if job.instance_count > settings.max_instance_count:
        raise EngineRefusedError(
            f"The run asks for {job.instance_count} machines, and this deployment allows "
            f"{settings.max_instance_count}: lower mlops:compute.instance_count."
        )
    hours = job.max_runtime * job.instance_count / _HOUR
    if settings.max_instance_hours is not None and hours > settings.max_instance_hours:
        raise EngineRefusedError(
            f"The run may take {hours:g} hours of machines, and this deployment allows "
            f"{settings.max_instance_hours:g}: lower mlops:compute.max_runtime or instance_count."
        )
    if settings.max_cost is not None:
        _check_cost(job, settings.max_cost, types, machine, plain, engine)
    return plain, machine


def with_estimate(
    state: JobState, types: InstanceTypes, engine: EngineName, spot: bool
) -> JobState:
    """``state`` with what it cost, where the table has a price of its machine."""
    machine = types.types.get(state.instance.removeprefix("ml."))
    price = machine.price(engine, spot) if machine is not None else None
    if price is None or state.billed_seconds is None:
        return state
    estimate = round(price.per_hour * state.billed_seconds / _HOUR, 4)
    return replace(state, estimate=estimate, currency=types.currency)


def write_job_files(store: S3Store, job: JobSpec) -> str:
    """Put the job's document and token into the store; the document's ``s3://`` URL.

    Written again when a start is repeated: the document is the same, the token is new and as good.

    Raises:
        ValueError: there is a secret that has no place in the store.
    """
    unknown = set(job.secrets) - {RUN_TOKEN_ENV}
    if unknown:
        raise ValueError(f"jobs of this engine get no secrets but {RUN_TOKEN_ENV}: {unknown}")
    token = job.secrets.get(RUN_TOKEN_ENV)
    if token is not None:
        store.put_bytes(keys.job_token(job.name), token.encode())
    key = keys.job_document(job.name)
    store.put_bytes(key, job.document.model_dump_json().encode())
    return key_url(store, key)


def job_tags(job: JobSpec, settings: CloudEngineSettings, **more: str) -> dict[str, str]:
    """The tags of a job, in characters that AWS takes; those of the job go before the settings'."""
    tags = {**settings.tags, **job.tags, **more}
    kept = dict(list(tags.items())[-_MOST_TAGS:])
    return {name: _NOT_IN_TAGS.sub("_", value)[:_TAG_VALUE] for name, value in kept.items()}


def _check_cost(
    job: JobSpec,
    most: float,
    types: InstanceTypes,
    machine: InstanceType,
    plain: str,
    engine: EngineName,
) -> None:
    price = machine.highest_price(engine, job.spot)
    if price is None:
        raise EngineRefusedError(
            f"This deployment limits what a run may cost, and its table of instance types has no "
            f"price for {plain}: take another instance type, or have its price added."
        )
    cost = price.per_hour * job.instance_count * job.max_runtime / _HOUR
    if cost > most:
        raise EngineRefusedError(
            f"The run may cost up to {cost:.2f} {types.currency}, and this deployment allows "
            f"{most:.2f}: lower mlops:compute.max_runtime or take smaller machines."
        )
