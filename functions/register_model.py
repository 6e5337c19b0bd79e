"""Makes a model of what a job handed over (event ``job.state-changed``, phase succeeded,
or the like of SageMaker and Batch themselves).

The API creates the Item, gives it its version, and ends the run as successful in one transaction:
a run is successful when its model is there, never before.
"""

import tempfile
from pathlib import Path
from typing import Any

from aws_lambda_powertools import Logger

from functions.engine_events import ForeignJobError, job_change
from functions.jobs import RequestError, read_dataset, training_data_links
from functions.messages import Handler, from_environment, queue_handler
from functions.model_files import ModelCheckError, check_model, publish_files, storage_scheme
from functions.model_item import ModelParts, TrainedOn, model_item
from functions.outcomes import BadOutcomeError, require_outcome
from functions.runs import (
    Run,
    add_measures,
    exit_of,
    fail_run,
    finite,
    measures_of,
    read_run,
)
from functions.services import Services
from mlops import request_ids
from mlops.api import ApiError, ConflictError, UnavailableError
from mlops.engines import JobState, Phase
from mlops.events import BusEvent, Function, JobEvent
from mlops.items.ids import collection_id
from mlops.items.kinds import Kind
from mlops.jobs import ExitCode, RunOutcome


def register_model(event: BusEvent, services: Services, logger: Logger) -> None:
    """Check what the job handed over and register it; what is not fit fails the run."""
    try:
        change = job_change(event, services.store)
    except ForeignJobError as error:
        logger.warning("dropped: %s", error, extra={"event": event.id})
        return
    with request_ids.bound(change.request_id):
        _job_succeeded(event, change, services, logger)


def build(services: Services) -> Handler:
    """The handler of the function's queue."""
    return queue_handler(Function.REGISTER_MODEL, register_model, services)


def _job_succeeded(event: BusEvent, change: JobEvent, services: Services, logger: Logger) -> None:
    noted = {"run": change.item, "job": change.job, "event": event.id}
    run = read_run(services.api, change.workspace, change.collection, change.item)
    if run is None or change.attempt != run.attempt or run.status.is_terminal:
        logger.info("dropped: the run is gone, has ended or is at another attempt", extra=noted)
        return
    engine = services.engines.get(change.engine)
    state = engine.describe(change.job) if engine is not None else None
    if state is not None and state.phase in (Phase.QUEUED, Phase.RUNNING):
        # An engine that is behind its own event; what is missed here, `reconcile` finds.
        logger.warning("dropped: the engine says that the job has not ended", extra=noted)
        return
    try:
        outcome = require_outcome(run, services.store)
        if outcome.exit_code != ExitCode.DONE:
            fail_run(services.api, run, outcome.exit_code, outcome.reason, state)
            return
        model = _register(run, outcome, state, services)
    except (BadOutcomeError, ModelCheckError, RequestError) as error:
        fail_run(services.api, run, ExitCode.DONE.value, str(error), state)
        logger.warning("run failed", extra={**noted, "reason": str(error)})
        return
    logger.info("model registered" if model else "dropped: the run ended meanwhile", extra=noted)


def _register(
    run: Run, outcome: RunOutcome, state: JobState | None, services: Services
) -> str | None:
    """The id of the model; None when the run ended meanwhile."""
    with tempfile.TemporaryDirectory(prefix="mlops-model-") as folder:
        description, facts = check_model(outcome, services.store, Path(folder))
    datasets = [
        TrainedOn(str(link["href"]), read_dataset(services, str(link["href"]))[2], split)
        for link in training_data_links(run.item)
        for split in [link.get("ml-aoi:split")]
    ]
    files = publish_files(run, outcome, services)
    measured = add_measures(services.api, run, _measures(run, outcome, state))
    if measured is None:
        return None
    parts = ModelParts(
        run=measured.item,
        run_href=f"{services.api.url}/collections/{run.collection}/items/{run.id}",
        description=description,
        facts=facts,
        metrics=finite(outcome.metrics),
        environment=outcome.environment,
        finished=str(measured.record.finished),
        files=files,
        datasets=datasets,
        storage_scheme=storage_scheme(services.store),
    )
    return _create(measured, model_item(parts), services)


def _measures(run: Run, outcome: RunOutcome, state: JobState | None) -> dict[str, Any]:
    metrics = finite(outcome.metrics)
    measures = {
        **measures_of(run, state),
        "mlops:exit": exit_of(ExitCode.DONE.value, outcome.reason or "done"),
        "mlops:metrics": {**finite(run.record.metrics), **metrics},
    }
    if "mlops:finished" not in measures:
        # The engine has forgotten the job: the run's own last change is nearest to its end.
        measures["mlops:finished"] = run.record.finished or run.properties["updated"]
    objective = (run.properties.get("mlops:objective") or {}).get("metric")
    if objective in metrics:
        measures["mlops:objective_value"] = metrics[objective]
    if outcome.environment:
        measures["mlops:environment"] = outcome.environment
    return measures


def _create(run: Run, item: dict[str, Any], services: Services) -> str | None:
    collection = collection_id(run.workspace, Kind.MODEL)
    try:
        created, _ = services.api.create_item(collection, item)
    except ConflictError:
        present = read_run(services.api, run.workspace, run.collection, run.id)
        if present is None or present.status.is_terminal:
            return None
        raise
    except UnavailableError:
        raise
    except ApiError as error:
        if error.status in (400, 413, 422):
            raise ModelCheckError(f"The model's Item was refused: {error}") from error
        raise
    return str(created["id"])


_from_environment = from_environment(build)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """AWS Lambda's entry point."""
    return _from_environment()(event, context)
