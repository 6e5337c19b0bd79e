"""A training run as the functions see it, and the changes that they make to it.

Each change names the attempt it is about and, where it depends on it, the status: the API compares
them in the transaction that writes (JSON Patch ``test``), so a late message changes nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mlops import request_ids
from mlops.api import Api, ConflictError, Item, NotFoundError
from mlops.engines import JobHandle, JobState, job_name
from mlops.events import RECORD_SOURCE, BusEvent, RecordEvent
from mlops.items.status import Status
from mlops.items.training_run import RunRecord, RunRequest
from mlops.storage import keys

_TRIES = 5
_OF_AN_ATTEMPT = (
    "mlops:job",
    "mlops:waiting",
    "mlops:exit",
    "mlops:started",
    "mlops:finished",
    "mlops:cost",
    "mlops:environment",
    "mlops:objective_value",
)
"""What was measured on an attempt and says nothing of the next."""

Patch = list[dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """A training run that was read."""

    workspace: str
    collection: str
    id: str
    item: Item
    record: RunRecord

    @property
    def properties(self) -> dict[str, Any]:
        """The item's properties."""
        properties: dict[str, Any] = self.item["properties"]
        return properties

    @property
    def attempt(self) -> int:
        """The attempt that counts now."""
        return self.record.attempt

    @property
    def status(self) -> Status:
        """Where the run stands."""
        return self.record.status

    @property
    def request(self) -> RunRequest:
        """What the run asks for; pydantic's ValidationError when that is not valid."""
        return RunRequest.model_validate(self.properties)

    @property
    def job(self) -> str:
        """The name of the present attempt's job."""
        return job_name(self.workspace, self.collection, self.id, self.attempt)

    @property
    def engine_job(self) -> str:
        """The engine's id of the present attempt's job: its name, where the record has no other."""
        # The record names a job of the present attempt only: a new attempt takes it out.
        known = self.record.job
        return self.job if known is None else known.id

    @property
    def output_prefix(self) -> str:
        """Where the present attempt puts all it makes."""
        return keys.run_prefix(self.workspace, self.id, self.attempt)

    @property
    def engine_name(self) -> str:
        """The engine that the run asks for."""
        return str((self.properties.get("mlops:compute") or {}).get("engine", "local"))


def read_run(api: Api, workspace: str, collection: str, run: str) -> Run | None:
    """Read a run; None when there is none."""
    try:
        item = api.get_item(collection, run).item
    except NotFoundError:
        return None
    return run_of(workspace, item)


def run_of(workspace: str, item: Item) -> Run:
    """The run that an item is."""
    record = RunRecord.model_validate(item["properties"])
    return Run(workspace, item["collection"], item["id"], item, record)


def change_run(api: Api, run: Run, make_patch: Callable[[Run], Patch | None]) -> Run | None:
    """Patch a run by what ``make_patch`` says of its present state; None from it is no change.

    When the run changes meanwhile, it is read and asked again.

    Returns:
        The run afterwards; None when it is gone or ``make_patch`` wants no change.

    Raises:
        ConflictError: it changed too often, or the API refuses the change.
    """
    present: Run | None = run
    for tries_left in reversed(range(_TRIES)):
        if present is None or (patch := make_patch(present)) is None:
            return None
        tests: Patch = [
            {"op": "test", "path": "/properties/mlops:attempt", "value": present.attempt},
            {"op": "test", "path": "/properties/mlops:status", "value": present.status.value},
        ]
        try:
            return run_of(run.workspace, api.json_patch(run.collection, run.id, [*tests, *patch]))
        except ConflictError:
            if not tries_left:
                raise
            present = read_run(api, run.workspace, run.collection, run.id)
        except NotFoundError:
            return None
    raise AssertionError("the last try returns or raises")


def link_job(api: Api, run: Run, handle: JobHandle) -> Run | None:
    """Write down which job the run's attempt is; None when that attempt counts no more."""
    job = {"engine": handle.engine, "id": handle.id, "console": handle.console}
    value = {name: text for name, text in job.items() if text is not None}

    def patch(present: Run) -> Patch | None:
        if present.attempt != run.attempt:
            return None
        return [_set("mlops:job", value), *_no_longer_waiting(present)]

    return change_run(api, run, patch)


def note_waiting(api: Api, run: Run, reason: str, until: datetime) -> Run | None:
    """Write down why the run's attempt has no job yet; None when it counts no more or has one."""

    def patch(present: Run) -> Patch | None:
        ended = present.status.is_terminal or present.attempt != run.attempt
        if ended or present.record.job is not None:
            return None
        return [_set("mlops:waiting", {"reason": reason, "until": timestamp(until)})]

    return change_run(api, run, patch)


def fail_run(
    api: Api, run: Run, code: int | None, reason: str, state: JobState | None = None
) -> None:
    """End the run's attempt as failed, unless it has ended or another attempt counts."""

    def patch(present: Run) -> Patch | None:
        if present.status.is_terminal or present.attempt != run.attempt:
            return None
        return [
            _set("mlops:status", Status.FAILED.value),
            _set("mlops:exit", exit_of(code, reason)),
            *_set_all({"mlops:finished": _now(), **measures_of(present, state)}),
            *_no_longer_waiting(present),
        ]

    change_run(api, run, patch)


def complete_dismissed(api: Api, run: Run, state: JobState) -> None:
    """Add to a dismissed run how its job ended, as far as that is known."""

    def patch(present: Run) -> Patch | None:
        if present.status is not Status.DISMISSED or present.attempt != run.attempt:
            return None
        ending = {"mlops:exit": exit_of(None, "Dismissed on request."), "mlops:finished": _now()}
        missing = {n: value for n, value in ending.items() if present.properties.get(n) is None}
        measured = {**missing, **measures_of(present, state)}
        new = {n: value for n, value in measured.items() if present.properties.get(n) != value}
        return [*_set_all(new), *_no_longer_waiting(present)] or None

    change_run(api, run, patch)


def next_attempt(api: Api, run: Run) -> Run | None:
    """Begin the next attempt; None when the run has ended or another attempt counts already."""

    def patch(present: Run) -> Patch | None:
        if present.status.is_terminal or present.attempt != run.attempt:
            return None
        stale = [name for name in _OF_AN_ATTEMPT if name in present.properties]
        return [
            _set("mlops:attempt", run.attempt + 1),
            _set("mlops:progress", 0.0),
            *({"op": "remove", "path": f"/properties/{name}"} for name in stale),
        ]

    return change_run(api, run, patch)


def add_measures(api: Api, run: Run, measures: dict[str, Any]) -> Run | None:
    """Write properties of the attempt of an open run; None when it counts no more."""

    def patch(present: Run) -> Patch | None:
        if present.status.is_terminal or present.attempt != run.attempt:
            return None
        return _set_all(measures)

    return change_run(api, run, patch)


def exit_of(code: int | None, reason: str) -> dict[str, Any]:
    """``mlops:exit``."""
    return {"reason": reason} if code is None else {"code": code, "reason": reason}


def measures_of(run: Run, state: JobState | None) -> dict[str, Any]:
    """What an engine measured of a run's job, as the run's properties."""
    measured: dict[str, Any] = {}
    if state is None:
        return measured
    # The job's own word says when the training started; the engine's, when the process did.
    if state.started is not None and run.record.started is None:
        measured["mlops:started"] = timestamp(state.started)
    if state.finished is not None:
        measured["mlops:finished"] = timestamp(state.finished)
    if state.billed_seconds is not None:
        seconds = round(state.billed_seconds, 3)
        cost: dict[str, Any] = {"seconds": seconds, "instance": state.instance}
        if state.estimate is not None:
            cost |= {"estimate": state.estimate, "currency": state.currency}
        measured["mlops:cost"] = cost
    return measured


def finite(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics that JSON can hold."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def timestamp(time: datetime) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def accepted_event(run: Run, api_url: str) -> BusEvent:
    """The event that the run's present attempt is to be started, made anew."""
    now = datetime.now(UTC)
    identity = f"{run.job}:accepted"
    detail = RecordEvent(
        id=identity,
        time=now,
        workspace=run.workspace,
        collection=run.collection,
        item=run.id,
        attempt=run.attempt,
        href=f"{api_url}/collections/{run.collection}/items/{run.id}",
        request_id=request_ids.current(),
    )
    return BusEvent(
        id=identity,
        source=RECORD_SOURCE,
        detail_type="run.accepted",
        time=now,
        detail=detail.model_dump(mode="json"),
    )


def _no_longer_waiting(present: Run) -> Patch:
    if present.record.waiting is None:
        return []
    return [{"op": "remove", "path": "/properties/mlops:waiting"}]


def _now() -> str:
    return timestamp(datetime.now(UTC))


def _set(name: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": f"/properties/{name}", "value": value}


def _set_all(values: dict[str, Any]) -> Patch:
    return [_set(name, value) for name, value in values.items()]
