"""Brings the record and the engines into agreement, on a schedule while runs are open.

It only notices; what is to be done about it is said in events, and done by the functions that do
it otherwise.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from aws_lambda_powertools import Logger

from functions.jobs import waits
from functions.messages import Handler, from_environment, queue_handler
from functions.runs import Run, accepted_event, run_of
from functions.schedule import Schedule
from functions.services import Services
from mlops.engines import EngineBusyError, JobState, Phase
from mlops.events import BusEvent, Function, job_event
from mlops.items.kinds import Kind
from mlops.items.status import OPEN

_PERIOD = timedelta(minutes=1)
"""How often the schedule runs."""


def reconcile(event: BusEvent, services: Services, logger: Logger) -> None:  # noqa: ARG001
    """Ask the engine about every open run; one that cannot be asked does not keep the others.

    An engine that wants fewer questions gets no more of them until the next call, which asks in
    another order: so none is left out for ever.
    """
    faults: list[Exception] = []
    busy: set[str] = set()
    runs = list(open_runs(services))
    # The order is no secret: any will do.
    random.shuffle(runs)
    for run in runs:
        if run.engine_name in busy:
            continue
        try:
            _check(run, services, logger)
        except EngineBusyError as error:
            logger.warning("the engine is busy: %s", error, extra={"engine": run.engine_name})
            busy.add(run.engine_name)
        except Exception as error:
            logger.exception("run could not be checked", extra={"run": run.id})
            faults.append(error)
    if services.schedule is not None:
        _set_schedule(services.schedule, bool(runs), services, logger)
    if faults:
        raise ExceptionGroup("some open runs could not be checked", faults)


def open_runs(services: Services) -> Iterator[Run]:
    """Every run that has not ended, of every workspace."""
    workspaces = services.api.get_json("/workspaces")["workspaces"]
    of = {one["collections"][Kind.TRAINING_RUN.value]: one["id"] for one in workspaces}
    if not of:
        return
    statuses = sorted(status.value for status in OPEN)
    found = services.api.search(
        **{
            "collections": sorted(of),
            "filter-lang": "cql2-json",
            "filter": {"op": "in", "args": [{"property": "mlops:status"}, statuses]},
        }
    )
    for item in found:
        yield run_of(of[item["collection"]], item)


def build(services: Services) -> Handler:
    """The handler of the schedule, whether it comes through a queue or straight."""
    queued = queue_handler(Function.RECONCILE, reconcile, services)
    logger = Logger(service=Function.RECONCILE.value)

    def handle(event: dict[str, Any], context: Any) -> dict[str, Any]:
        if "Records" in event:
            return queued(event, context)
        reconcile(BusEvent.model_validate({**event, "detail_type": "schedule"}), services, logger)
        return {}

    return handle


def _set_schedule(schedule: Schedule, open_now: bool, services: Services, logger: Logger) -> None:
    """Disarm the schedule after the last run; one that came meanwhile arms it again.

    It is armed also where runs are open, though it should be: an earlier call may have disarmed it
    and died before it looked again.
    """
    if open_now:
        schedule.arm()
        return
    schedule.disarm()
    if next(open_runs(services), None) is None:
        logger.info("no run is open: the schedule is disarmed")
    else:
        schedule.arm()


def _check(run: Run, services: Services, logger: Logger) -> None:
    if run.record.job is None and waits(run):
        # It has no job yet: its engine had no room for one a moment ago.
        return
    engine = services.engines.get(run.engine_name)
    state = engine.describe(run.engine_job) if engine is not None else JobState(Phase.UNKNOWN)
    noted = {"run": run.id, "job": run.engine_job, "phase": state.phase.value}
    if state.phase.is_over:
        logger.info("the job has ended, its run has not", extra=noted)
        services.bus.publish(_job_event(run, state))
    elif state.phase is Phase.UNKNOWN and run.record.job is not None:
        logger.warning("the job is lost", extra=noted)
        services.bus.publish(_job_event(run, JobState(Phase.LOST)))
    elif state.phase is Phase.UNKNOWN and _is_forgotten(run, services.launch_patience):
        logger.warning("the run has no job", extra=noted)
        services.bus.publish(accepted_event(run, services.api.url))


def _is_forgotten(run: Run, patience: timedelta) -> bool:
    """Whether the event that starts the run's job should have been handled long ago.

    True once in each period of ``patience``, so that what is stuck behind a queue does not make
    that longer with every minute.
    """
    waiting = run.record.waiting
    since = (
        waiting.until
        if waiting is not None
        else datetime.fromisoformat(run.properties.get("updated") or run.properties["created"])
    )
    late = datetime.now(UTC) - since
    return late > patience and late // patience > (late - _PERIOD) // patience


def _job_event(run: Run, state: JobState) -> BusEvent:
    return job_event(
        run.engine_name,
        run.engine_job,
        state,
        workspace=run.workspace,
        collection=run.collection,
        item=run.id,
        attempt=run.attempt,
    )


_from_environment = from_environment(build)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """AWS Lambda's entry point."""
    return _from_environment()(event, context)
