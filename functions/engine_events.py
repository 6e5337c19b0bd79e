"""AWS's own events about jobs, as events of ours.

SageMaker and Batch tell the account's default bus when a job changes its state. Such an event has
the job's name and not its run; the document that the job was given has both.

Formats: https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html
and https://docs.aws.amazon.com/batch/latest/userguide/batch_cwe_events.html
"""

import re
from dataclasses import dataclass

from pydantic import ValidationError

from mlops.engines import Phase
from mlops.events import BATCH_SOURCE, ENGINE_SOURCE, SAGEMAKER_SOURCE, BusEvent, JobEvent
from mlops.items.ids import InvalidIdError
from mlops.jobs import JobDocument
from mlops.storage import MissingObjectError, ObjectStore, keys

_LIMIT = 4 << 20
_SAGEMAKER_PHASES = {
    "InProgress": Phase.RUNNING,
    "Stopping": Phase.RUNNING,
    "Completed": Phase.SUCCEEDED,
    "Failed": Phase.FAILED,
    "Stopped": Phase.STOPPED,
}
_BATCH_PHASES = {
    "SUBMITTED": Phase.QUEUED,
    "PENDING": Phase.QUEUED,
    "RUNNABLE": Phase.QUEUED,
    "STARTING": Phase.QUEUED,
    "RUNNING": Phase.RUNNING,
    "SUCCEEDED": Phase.SUCCEEDED,
    "FAILED": Phase.FAILED,
}
# A node of a multi-node job, or a child of an array: {id of the job}#{number}.
_PART = re.compile(r"[#:]\d+\Z")


class ForeignJobError(Exception):
    """An event tells of what is no job of a run here; the message says why."""


@dataclass(frozen=True)
class _Told:
    """What an event of AWS says of a job."""

    engine: str
    name: str
    engine_job: str
    phase: Phase


def job_change(event: BusEvent, store: ObjectStore) -> JobEvent:
    """What an event says of the job of a run, whoever sent it.

    Raises:
        ForeignJobError: it is no event of a job that a run here has.
    """
    if event.source == ENGINE_SOURCE:
        return event.job()
    told = _told(event)
    document = _document(told.name, store)
    return JobEvent(
        id=event.id,
        time=event.time,
        engine=told.engine,
        job=told.engine_job,
        phase=told.phase,
        workspace=document.workspace,
        collection=document.collection,
        item=document.item,
        attempt=document.attempt,
        request_id=document.request_id,
    )


def _told(event: BusEvent) -> _Told:
    detail = event.detail
    try:
        if event.source == SAGEMAKER_SOURCE:
            name = str(detail["TrainingJobName"])
            phase = _SAGEMAKER_PHASES.get(str(detail["TrainingJobStatus"]), Phase.UNKNOWN)
            return _Told("sagemaker", name, name, phase)
        if event.source == BATCH_SOURCE:
            name, job = str(detail["jobName"]), str(detail["jobId"])
            if _PART.search(job):
                # It may end before the others do; the job as a whole tells of itself, too.
                raise ForeignJobError(f"{job} is one node of a job")
            phase = _BATCH_PHASES.get(str(detail["status"]), Phase.UNKNOWN)
            return _Told("batch", name, job, phase)
    except KeyError as error:
        raise ForeignJobError(f"the event of {event.source} has no {error}") from error
    raise ForeignJobError(f"no engine here sends events as {event.source}")


def _document(job: str, store: ObjectStore) -> JobDocument:
    try:
        key = keys.job_document(job)
        return JobDocument.model_validate_json(store.get_bytes(key, _LIMIT))
    except InvalidIdError as error:
        raise ForeignJobError(str(error)) from error
    except MissingObjectError as error:
        raise ForeignJobError(f"no run here has a job of the name {job}") from error
    except ValidationError as error:
        raise ForeignJobError(f"the document of job {job} is not one of ours: {error}") from error
