"""Events on one machine: from a committed change to the handlers, with retries and dead letters."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psycopg
import pytest

from infra.local.database import MIGRATIONS
from infra.local.dispatcher import Dispatcher, Handler
from infra.local.queue import MAX_RECEIVES, LocalQueue
from infra.local.service import LocalContext
from mlops.api import Api
from mlops.engines import JobState, Phase
from mlops.events import BusEvent, Function, job_event
from stac_api.migrate import migrate
from tests.conftest import ApiServer
from tests.integration.conftest import run_item

RUNS = "alps-training-runs"
Start = Callable[[Mapping[Function, Handler]], Dispatcher]


class Recorder:
    """A handler that keeps what it gets and fails as long as it is told to."""

    def __init__(self, failures: int = 0, *, raises: bool = False) -> None:
        self.events: list[BusEvent] = []
        self.deliveries = 0
        self._failures = failures
        self._raises = raises
        self._changed = threading.Condition()

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ARG002
        record = event["Records"][0]
        with self._changed:
            self.deliveries += 1
            failing = self.deliveries <= self._failures
            if not failing:
                self.events.append(BusEvent.from_json(record["body"]))
            self._changed.notify_all()
        if failing and self._raises:
            raise RuntimeError("told to fail")
        return {"batchItemFailures": [{"itemIdentifier": record["messageId"]}] if failing else []}

    def wait_for(self, events: int) -> list[BusEvent]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.events) >= events, 20)
            return list(self.events)

    def wait_for_deliveries(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.deliveries >= count, 20)


def all_to(handler: Handler) -> dict[Function, Handler]:
    return dict.fromkeys(Function, handler)


@pytest.fixture
def queue(database_url: str) -> Iterator[LocalQueue]:
    migrate(database_url, MIGRATIONS)
    queue = LocalQueue(database_url, first_pause=0.01)
    yield queue
    queue.close()


@pytest.fixture
def start(database_url: str, api_server: ApiServer, queue: LocalQueue) -> Iterator[Start]:
    dispatchers: list[Dispatcher] = []

    def start(handlers: Mapping[Function, Handler]) -> Dispatcher:
        dispatcher = Dispatcher(
            database_url, api_server.url, queue, handlers, lambda f: LocalContext(f.value)
        )
        dispatchers.append(dispatcher)
        dispatcher.start()
        return dispatcher

    yield start
    for dispatcher in dispatchers:
        dispatcher.stop()


def an_event(phase: Phase = Phase.FAILED, item: str = "r") -> BusEvent:
    return job_event(
        "local",
        f"job-{item}",
        JobState(phase),
        workspace="alps",
        collection=RUNS,
        item=item,
        attempt=1,
    )


def test_a_committed_run_reaches_its_function(start: Start, workspace: Api) -> None:
    launched = Recorder()
    start({**all_to(Recorder()), Function.LAUNCH_RUN: launched})
    run, _ = workspace.create_item(RUNS, run_item())
    event = launched.wait_for(1)[0]
    assert (event.source, event.detail_type) == ("mlops.stac-api", "run.accepted")
    assert event.record().item == run["id"]
    assert event.record().href == f"{workspace.url}/collections/{RUNS}/items/{run['id']}"
    assert event.record().etag == workspace.get_item(RUNS, run["id"]).etag.strip('"')


def test_what_was_committed_before_the_start_is_delivered(start: Start, workspace: Api) -> None:
    ids = {workspace.create_item(RUNS, run_item())[0]["id"] for _ in range(3)}
    launched = Recorder()
    start({**all_to(Recorder()), Function.LAUNCH_RUN: launched})
    assert {event.record().item for event in launched.wait_for(3)} == ids


def test_each_end_of_a_job_goes_where_it_belongs(start: Start, queue: LocalQueue) -> None:
    tracked, registered = Recorder(), Recorder()
    handlers = all_to(Recorder())
    start({**handlers, Function.TRACK_RUN: tracked, Function.REGISTER_MODEL: registered})
    for phase in (Phase.FAILED, Phase.STOPPED, Phase.LOST, Phase.SUCCEEDED):
        queue.publish(an_event(phase))
    assert {event.job().phase for event in tracked.wait_for(3)} == {
        Phase.FAILED,
        Phase.STOPPED,
        Phase.LOST,
    }
    assert [event.job().phase for event in registered.wait_for(1)] == [Phase.SUCCEEDED]


@pytest.mark.parametrize("raises", [False, True])
def test_a_failed_delivery_is_tried_again(start: Start, queue: LocalQueue, raises: bool) -> None:
    handler = Recorder(failures=3, raises=raises)
    start(all_to(handler))
    queue.publish(an_event())
    handler.wait_for(1)
    assert handler.deliveries == 4
    assert queue.dead_letters() == []


def test_what_never_succeeds_becomes_a_dead_letter(
    start: Start, queue: LocalQueue, database_url: str
) -> None:
    handler = Recorder(failures=1000, raises=True)
    dispatcher = start(all_to(handler))
    queue.publish(an_event())
    handler.wait_for_deliveries(MAX_RECEIVES)
    dispatcher.stop()
    letters = queue.dead_letters()
    assert [(letter.function, letter.receives) for letter in letters] == [
        ("track_run", MAX_RECEIVES)
    ]
    assert letters[0].last_error == "RuntimeError: told to fail"
    assert json.loads(letters[0].body)["detail"]["item"] == "r"
    with psycopg.connect(database_url) as connection:
        waiting = connection.execute("SELECT count(*) FROM mlops_queue.messages").fetchone()
    assert waiting == (0,)


def test_a_poisoned_message_does_not_hold_up_others(start: Start, queue: LocalQueue) -> None:
    handled: list[str] = []
    done = threading.Event()

    def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ARG001
        item = BusEvent.from_json(event["Records"][0]["body"]).job().item
        if item == "poison":
            raise RuntimeError("poison")
        handled.append(item)
        if len(handled) == 5:
            done.set()
        return {"batchItemFailures": []}

    start(all_to(handler))
    queue.publish_all([an_event(item="poison"), *(an_event(item=f"r{n}") for n in range(5))])
    assert done.wait(20)


def test_the_dispatcher_survives_the_loss_of_its_connections(
    start: Start, queue: LocalQueue, database_url: str
) -> None:
    handler = Recorder()
    start(all_to(handler))
    queue.publish(an_event(item="before"))
    handler.wait_for(1)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    other = LocalQueue(database_url)
    other.publish(an_event(item="after"))
    other.close()
    assert {event.job().item for event in handler.wait_for(2)} == {"before", "after"}


def test_reconcile_is_armed_by_open_runs_only(start: Start, workspace: Api) -> None:
    reconciled = Recorder()
    dispatcher = start({**all_to(Recorder()), Function.RECONCILE: reconciled})
    dispatcher.stop()
    assert reconciled.deliveries == 0
    workspace.create_item(RUNS, run_item())
    start({**all_to(Recorder()), Function.RECONCILE: reconciled})
    assert reconciled.wait_for(1)[0].detail_type == "Scheduled Event"
