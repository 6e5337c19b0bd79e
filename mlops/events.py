"""Events on the bus: their types, their JSON as EventBridge and SQS deliver it, and their routes.

Delivered at least once, in any order. An event carries ids and a link, never the item.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from mlops.engines import JobState, Phase

RECORD_SOURCE = "mlops.stac-api"
ENGINE_SOURCE = "mlops.engine"
SCHEDULE_SOURCE = "aws.events"
SAGEMAKER_SOURCE = "aws.sagemaker"
BATCH_SOURCE = "aws.batch"
JOB_STATE_CHANGED = "job.state-changed"
SCHEDULED = "Scheduled Event"


class Function(StrEnum):
    """The functions that events are delivered to."""

    LAUNCH_RUN = "launch_run"
    TRACK_RUN = "track_run"
    REGISTER_MODEL = "register_model"
    PUBLISH_RESOURCE = "publish_resource"
    RECONCILE = "reconcile"


class RecordEvent(BaseModel):
    """A committed change of an item."""

    model_config = ConfigDict(extra="ignore")

    id: str
    time: datetime
    workspace: str
    collection: str
    item: str
    attempt: int | None = None
    href: str
    etag: str | None = None
    request_id: str | None = None
    """Of the request that made the change, for logs."""


class JobEvent(BaseModel):
    """An engine's word that a job changed its state."""

    model_config = ConfigDict(extra="ignore")

    id: str
    time: datetime
    engine: str
    job: str
    phase: Phase
    workspace: str
    collection: str
    item: str
    attempt: int
    request_id: str | None = None
    """Of the request that asked for the run, for logs."""


class BusEvent(BaseModel):
    """An event as EventBridge delivers it."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    version: Literal["0"] = "0"
    id: str
    source: str
    detail_type: str
    account: str = "000000000000"
    region: str = "local"
    time: datetime
    resources: list[str] = []
    detail: dict[str, Any]

    def to_json(self) -> str:
        """The event in EventBridge's spelling."""
        body = self.model_dump(mode="json")
        body["detail-type"] = body.pop("detail_type")
        return json.dumps(body)

    @classmethod
    def from_json(cls, text: str) -> "BusEvent":
        """Read an event in EventBridge's spelling."""
        body = json.loads(text)
        body["detail_type"] = body.pop("detail-type", "")
        return cls.model_validate(body)

    def record(self) -> RecordEvent:
        """The detail of an event of the record."""
        return RecordEvent.model_validate(self.detail)

    def job(self) -> JobEvent:
        """The detail of an engine's event."""
        return JobEvent.model_validate(self.detail)


class EventBus(Protocol):
    """Where events are put."""

    def publish(self, event: BusEvent) -> None:
        """Hand an event over; returns when the bus has it."""
        ...


def job_event(
    engine: str,
    job: str,
    state: JobState,
    *,
    workspace: str,
    collection: str,
    item: str,
    attempt: int,
    request_id: str | None = None,
) -> BusEvent:
    """The event that says where an engine's job stands.

    Its id is made from what it says, so the same word twice is the same event.
    """
    now = datetime.now(UTC)
    identity = f"{job}:{state.phase}"
    detail = JobEvent(
        id=identity,
        time=now,
        engine=engine,
        job=job,
        phase=state.phase,
        workspace=workspace,
        collection=collection,
        item=item,
        attempt=attempt,
        request_id=request_id,
    )
    return BusEvent(
        id=identity,
        source=ENGINE_SOURCE,
        detail_type=JOB_STATE_CHANGED,
        time=now,
        detail=detail.model_dump(mode="json"),
    )


def scheduled_event(identity: str) -> BusEvent:
    """What EventBridge's scheduler sends."""
    return BusEvent(
        id=identity,
        source=SCHEDULE_SOURCE,
        detail_type=SCHEDULED,
        time=datetime.now(UTC),
        detail={},
    )


def routes(event: BusEvent) -> tuple[Function, ...]:
    """Which functions get an event; the rules of the bus in the cloud say the same.

    There, the engines' own events (:data:`SAGEMAKER_SOURCE`, :data:`BATCH_SOURCE`) go where those
    of :data:`ENGINE_SOURCE` go.

    A job that succeeded goes to ``register_model``, which ends the run together with the model's
    creation; every other end goes to ``track_run``.
    """
    if event.source == SCHEDULE_SOURCE:
        return (Function.RECONCILE,)
    if event.source == ENGINE_SOURCE:
        succeeded = event.detail.get("phase") == Phase.SUCCEEDED
        return (Function.REGISTER_MODEL,) if succeeded else (Function.TRACK_RUN,)
    return _RECORD_ROUTES.get(event.detail_type, ())


_RECORD_ROUTES: dict[str, tuple[Function, ...]] = {
    "run.accepted": (Function.LAUNCH_RUN,),
    "run.dismissed": (Function.TRACK_RUN,),
    "model.published": (Function.PUBLISH_RESOURCE,),
    "training-data.published": (Function.PUBLISH_RESOURCE,),
}


def queue_event(messages: Iterable[tuple[str, str, int]], function: Function) -> dict[str, Any]:
    """The JSON that a function gets from its queue: ``(message id, body, receive count)`` each."""
    return {
        "Records": [
            {
                "messageId": message_id,
                "receiptHandle": message_id,
                "body": body,
                "attributes": {
                    "ApproximateReceiveCount": str(count),
                    "SentTimestamp": "0",
                    "SenderId": "local",
                    "ApproximateFirstReceiveTimestamp": "0",
                },
                "messageAttributes": {},
                "md5OfBody": "",
                "eventSource": "aws:sqs",
                "eventSourceARN": f"arn:aws:sqs:local:000000000000:{function}",
                "awsRegion": "local",
            }
            for message_id, body, count in messages
        ]
    }
