"""Starts the job of a run that was accepted (event ``run.accepted``)."""

from typing import Any

from aws_lambda_powertools import Logger

from functions.jobs import start_attempt, waits
from functions.messages import Handler, from_environment, queue_handler
from functions.runs import read_run
from functions.services import Services
from mlops.events import BusEvent, Function


def launch_run(event: BusEvent, services: Services, logger: Logger) -> None:
    """Start the job, or find the one that an earlier delivery of the event started."""
    accepted = event.record()
    run = read_run(services.api, accepted.workspace, accepted.collection, accepted.item)
    if run is None:
        logger.info("dropped: the run is gone", extra={"run": accepted.item, "event": event.id})
        return
    if accepted.attempt is not None and accepted.attempt < run.attempt:
        logger.info("dropped: of an older attempt", extra={"run": run.id, "event": event.id})
        return
    if run.status.is_terminal:
        # An earlier delivery may have started the job and died before it could look back.
        engine = services.engines.get(run.engine_name)
        if engine is not None:
            engine.stop(run.engine_job)
        logger.info("dropped: the run has ended", extra={"run": run.id, "event": event.id})
        return
    if run.record.job is not None:
        logger.info("dropped: it has its job", extra={"run": run.id, "event": event.id})
        return
    if waits(run):
        logger.info("dropped: a later message is on its way", extra={"run": run.id})
        return
    start_attempt(run, services, logger)


def build(services: Services) -> Handler:
    """The handler of the function's queue; before a batch it arms the schedule, once for all."""
    schedule = services.schedule
    arm = None if schedule is None else schedule.arm
    return queue_handler(Function.LAUNCH_RUN, launch_run, services, before=arm)


_from_environment = from_environment(build)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """AWS Lambda's entry point."""
    return _from_environment()(event, context)
