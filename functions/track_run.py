"""Ends runs whose job ended without a model, and jobs whose run was dismissed.

Events: ``job.state-changed`` with any end but success, the like of SageMaker and Batch themselves,
and ``run.dismissed``.
"""

from typing import Any

from aws_lambda_powertools import Logger
from pydantic import ValidationError

from functions.engine_events import ForeignJobError, job_change
from functions.jobs import start_attempt, waits
from functions.messages import Handler, from_environment, queue_handler
from functions.outcomes import read_outcome
from functions.runs import Run, complete_dismissed, fail_run, next_attempt, read_run
from functions.services import Services
from mlops import request_ids
from mlops.engines import JobState, Phase
from mlops.events import RECORD_SOURCE, BusEvent, Function, JobEvent, job_event
from mlops.items.status import Status

_LOST = JobState(
    Phase.LOST,
    reason="The job was lost: its engine does not know it any more. Run it again.",
    retryable=True,
)


def track_run(event: BusEvent, services: Services, logger: Logger) -> None:
    """Bring run and job to the same end."""
    if event.source == RECORD_SOURCE:
        _run_dismissed(event, services, logger)
        return
    try:
        change = job_change(event, services.store)
    except ForeignJobError as error:
        logger.warning("dropped: %s", error, extra={"event": event.id})
        return
    with request_ids.bound(change.request_id):
        _job_changed(change, services, logger)


def build(services: Services) -> Handler:
    """The handler of the function's queue."""
    return queue_handler(Function.TRACK_RUN, track_run, services)


def _job_changed(change: JobEvent, services: Services, logger: Logger) -> None:
    noted = {"run": change.item, "job": change.job}
    run = read_run(services.api, change.workspace, change.collection, change.item)
    if run is None or change.attempt != run.attempt:
        logger.info("dropped: its run is gone or at another attempt", extra=noted)
        if run is not None and _has_yet_to_start(run):
            # An earlier delivery began the next attempt and did not come to start its job.
            start_attempt(run, services, logger)
        return
    state = _state(change, run, services)
    if not state.phase.is_over:
        logger.info("dropped: the job has not ended", extra={**noted, "phase": state.phase})
    elif run.status is Status.DISMISSED:
        complete_dismissed(services.api, run, state)
    elif run.status.is_terminal:
        logger.info("dropped: the run has ended", extra=noted)
    elif state.phase is Phase.SUCCEEDED:
        _pass_on(change, state, services)
    else:
        _end_attempt(run, state, services, logger)


def _has_yet_to_start(run: Run) -> bool:
    return not run.status.is_terminal and run.record.job is None and not waits(run)


def _state(change: JobEvent, run: Run, services: Services) -> JobState:
    """What the engine says now: events are late and out of order, the engine is not."""
    engine = services.engines.get(change.engine)
    state = engine.describe(change.job) if engine is not None else JobState(Phase.UNKNOWN)
    known = run.record.job is not None or change.phase is Phase.LOST
    return _LOST if state.phase is Phase.UNKNOWN and known else state


def _pass_on(change: JobEvent, state: JobState, services: Services) -> None:
    services.bus.publish(
        job_event(
            change.engine,
            change.job,
            state,
            workspace=change.workspace,
            collection=change.collection,
            item=change.item,
            attempt=change.attempt,
        )
    )


def _end_attempt(run: Run, state: JobState, services: Services, logger: Logger) -> None:
    if state.retryable and run.attempt < _max_attempts(run):
        following = next_attempt(services.api, run)
        if following is not None:
            logger.info("trying again", extra={"run": run.id, "attempt": following.attempt})
            start_attempt(following, services, logger)
        return
    code, reason = _exit(run, state, services)
    fail_run(services.api, run, code, reason, state)
    logger.info("run failed", extra={"run": run.id, "reason": reason})


def _exit(run: Run, state: JobState, services: Services) -> tuple[int | None, str]:
    """Exit code and reason: the job's own word where it had one, else the engine's."""
    reason = state.reason or "The job ended without a reason; its log may have one."
    if state.phase is Phase.STOPPED:
        reason = "The job was stopped, but not through the run: submit the run again."
    if state.exit_code is None:
        return None, reason
    outcome = read_outcome(run, services.store)
    if outcome is not None and outcome.exit_code == state.exit_code:
        return outcome.exit_code, outcome.reason
    told = run.record.exit
    if told is not None and told.code == state.exit_code:
        return told.code, told.reason
    return state.exit_code, reason


def _max_attempts(run: Run) -> int:
    try:
        return run.request.compute.max_attempts
    except ValidationError:
        # A request that is not valid does not become so by trying again.
        return 1


def _run_dismissed(event: BusEvent, services: Services, logger: Logger) -> None:
    dismissed = event.record()
    run = read_run(services.api, dismissed.workspace, dismissed.collection, dismissed.item)
    if run is None or run.status is not Status.DISMISSED:
        logger.info("dropped: there is no such dismissed run", extra={"run": dismissed.item})
        return
    state = JobState(Phase.UNKNOWN)
    engine = services.engines.get(run.engine_name)
    if engine is not None:
        engine.stop(run.engine_job)
        state = engine.describe(run.engine_job)
    complete_dismissed(services.api, run, state)
    logger.info("run dismissed", extra={"run": run.id, "job": run.engine_job})


_from_environment = from_environment(build)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """AWS Lambda's entry point."""
    return _from_environment()(event, context)
