"""Functions that die between any two changes they make: after redelivery the outcome is the same.

A function is made to die after its first change, after its second, and so on until it comes through
(`lambda_bootstrap`); the event is then delivered again, as its queue would.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mlops.api import Api, Item
from mlops.events import BusEvent
from mlops.storage import keys
from tests.aws.by_hand import CRASH, ByHand, by_hand, nudge, queue_json
from tests.aws.cloud import Cloud, wait_for
from tests.aws.fake_bus import FakeBus
from tests.aws.fake_engines import scripts
from tests.aws.outputs import document_at, hand_over
from tests.aws.scenarios import TAG, FakeCatalogue, Runs, place_of, tags_of
from tests.integration.conftest import dataset_item, run_item

WORKSPACE = "faults"
DATA, RUNS, MODELS = (
    f"{WORKSPACE}-{kind}" for kind in ("training-data", "training-runs", "models")
)
MOST = 30
QUICK = scripts.sagemaker_success(waiting=1, training=1)


class Line:
    """Runs whose every message is delivered by hand."""

    def __init__(self, hand: ByHand, user: Api) -> None:
        self.hand = hand
        self.user = user
        self.cloud = hand.cloud
        self.script: Any = QUICK

    def submit(self, name: str, **compute: Any) -> Item:
        item = run_item(**{"mlops:compute": {"engine": "sagemaker", **compute}})
        item["links"][0]["href"] = f"../../{DATA}/items/fields-v1"
        run, _ = self.user.create_item(RUNS, {**item, "id": name})
        self.hand.relay()
        return run

    def launched(self, name: str, **compute: Any) -> str:
        """A run that has its job, which will succeed."""
        self.submit(name, **compute)
        self.hand.deliver("LaunchRun", self.hand.take("LaunchRun", name))
        (job,) = self.jobs(name)
        return str(job.name)

    def jobs(self, name: str) -> list[Any]:
        fakes = self.cloud.fakes
        found = [*fakes.sagemaker.jobs.values(), *fakes.batch.jobs.values()]
        return [job for job in found if tags_of(job.request).get(TAG) == name]

    def run(self, name: str) -> dict[str, Any]:
        return self.cloud.run(RUNS, name)

    def models(self, name: str) -> list[Item]:
        found = self.user.search(collections=[MODELS])
        return [model for model in found if model["properties"]["mlops:run"] == name]


@pytest.fixture(scope="module")
def line(cloud: Cloud, runs: Runs) -> Iterator[Line]:
    """The deployed system, when the runs of other tests are over."""
    runs.wait_for_all()
    user = cloud.user()
    user.request("POST", "/workspaces", json={"id": WORKSPACE})
    user.create_item(DATA, dataset_item())
    with by_hand(cloud) as hand:
        line = Line(hand, user)

        def script(request: dict[str, Any]) -> Any:
            hand_over(cloud.store, document_at(place_of(request), cloud.store))
            return line.script

        cloud.fakes.sagemaker.script = cloud.fakes.batch.script = script
        cloud.fakes.deliver = list
        hand.relay()
        yield line


@pytest.fixture(autouse=True)
def quick_jobs(line: Line) -> None:
    """Jobs succeed at once, unless a test says otherwise."""
    line.script = QUICK


def crashes(
    line: Line,
    function: str,
    event: Callable[[int], BusEvent],
    check: Callable[[int], None],
    meanwhile: Callable[[int], None] = lambda _number: None,
) -> int:
    """Let ``function`` die after each change it makes, on one event after another.

    ``event`` makes the event of a number, ``check`` looks at the outcome after redelivery;
    ``meanwhile`` is what happens until then.

    Returns:
        How many places there are to die in.
    """
    for after in range(1, MOST):
        message = event(after)
        crashed = line.hand.crash(function, after, message)
        meanwhile(after)
        line.hand.deliver(function, message)
        check(after)
        if not crashed:
            return after - 1
    raise AssertionError(f"{function} makes more than {MOST} changes")


def test_launch_run_on_sagemaker(line: Line) -> None:
    def event(number: int) -> BusEvent:
        line.submit(f"launch-{number}")
        return line.hand.take("LaunchRun", f"launch-{number}")

    def check(number: int) -> None:
        (job,) = line.jobs(f"launch-{number}")
        assert line.run(f"launch-{number}")["mlops:job"]["id"] == job.name

    # Arms the schedule, token, document, job, link.
    assert crashes(line, "LaunchRun", event, check) == 5


def test_launch_run_on_batch(line: Line) -> None:
    """Batch would take a job twice: the claim that a dead function left is resolved by name."""
    line.script = scripts.batch_success()

    def event(number: int) -> BusEvent:
        line.submit(f"batch-{number}", engine="batch")
        return line.hand.take("LaunchRun", f"batch-{number}")

    def check(number: int) -> None:
        name = f"batch-{number}"
        (job,) = line.jobs(name)
        assert line.run(name)["mlops:job"]["id"] == job.id

    def meanwhile(number: int) -> None:
        age_claim(line, f"batch-{number}")

    # As above, and the claim before and the id after the submission.
    assert crashes(line, "LaunchRun", event, check, meanwhile) == 7


def age_claim(line: Line, name: str) -> None:
    """Let the time pass until the queue delivers again, which is longer than a claim is good."""
    store = line.cloud.store
    for key in list(store.keys(keys.JOBS)):
        if key.startswith(f"{keys.JOBS}{name}-") and key.endswith("submission.json"):
            claim = json.loads(store.get_bytes(key, 1 << 16))
            store.put_bytes(key, json.dumps({**claim, "claimed": "2020-01-01T00:00:00Z"}).encode())


def test_register_model(line: Line) -> None:
    def event(number: int) -> BusEvent:
        job = line.launched(f"model-{number}")
        return line.hand.take("RegisterModel", job)

    def check(number: int) -> None:
        assert line.run(f"model-{number}")["mlops:status"] == "successful"
        assert len(line.models(f"model-{number}")) == 1

    assert crashes(line, "RegisterModel", event, check) >= 3


def test_track_run_that_tries_again(line: Line) -> None:
    def event(number: int) -> BusEvent:
        line.script = scripts.sagemaker_failure(scripts.INTERNAL_ERROR, training=None)
        job = line.launched(f"again-{number}", max_attempts=2)
        event = line.hand.take("TrackRun", job)
        line.script = QUICK
        return event

    def check(number: int) -> None:
        run = line.run(f"again-{number}")
        jobs = {job.name for job in line.jobs(f"again-{number}")}
        assert run["mlops:attempt"] == 2
        assert len(jobs) == 2
        assert run["mlops:job"]["id"] in jobs

    assert crashes(line, "TrackRun", event, check) >= 4


def test_track_run_that_dismisses(line: Line) -> None:
    line.script = scripts.sagemaker_endless()

    def event(number: int) -> BusEvent:
        name = f"dismissed-{number}"
        line.launched(name)
        line.user.merge_patch(RUNS, name, {"properties": {"mlops:status": "dismissed"}})
        line.hand.relay()
        return line.hand.take("TrackRun", name)

    def check(number: int) -> None:
        assert line.jobs(f"dismissed-{number}")[0].status in ("Stopping", "Stopped")
        assert line.run(f"dismissed-{number}")["mlops:finished"]

    # Stops the job, completes the run.
    assert crashes(line, "TrackRun", event, check) == 2


def test_reconcile(line: Line) -> None:
    """Its changes are events; what it says twice is done once."""
    job = line.launched("unheard")
    line.hand.take("RegisterModel", job)
    tick = BusEvent.from_json(nudge().to_json())
    assert line.hand.crash("Reconcile", 1, tick)
    line.hand.deliver("Reconcile", tick)
    told = line.hand.take("RegisterModel", job)
    line.hand.deliver("RegisterModel", told, told)
    assert len(line.models("unheard")) == 1


def test_publish_resource(line: Line, catalogue: FakeCatalogue) -> None:
    line.user.merge_patch(DATA, "fields-v1", {"properties": {"mlops:published": True}})
    line.hand.relay()
    event = line.hand.take("PublishResource", "fields-v1")
    assert line.hand.crash("PublishResource", 1, event)
    line.hand.deliver("PublishResource", event)
    assert f"{WORKSPACE}.fields-v1" in catalogue.entries


def test_relay_that_dies_after_the_bus_took_its_events(line: Line) -> None:
    item = run_item(**{"mlops:compute": {"engine": "sagemaker"}})
    item["links"][0]["href"] = f"../../{DATA}/items/fields-v1"
    line.user.create_item(RUNS, {**item, "id": "relayed"})
    assert line.hand.crash("RelayOutbox", 1, nudge())
    line.hand.relay()
    twice = [line.hand.take("LaunchRun", "relayed") for _ in range(2)]
    assert twice[0].detail == twice[1].detail
    line.hand.deliver("LaunchRun", *twice)
    assert len(line.jobs("relayed")) == 1


def test_api_that_dies_before_it_told_the_relay(line: Line) -> None:
    """The change is committed with its event: the sweep finds it, and a client that asks again is
    told that the run is there."""
    item = run_item(**{"mlops:compute": {"engine": "sagemaker"}})
    item["links"][0]["href"] = f"../../{DATA}/items/fields-v1"
    with line.cloud.process("StacApiFunction", **{CRASH: "0"}) as dying:
        assert (
            line.cloud.http_api.ask(
                dying, "POST", f"/collections/{RUNS}/items", {**item, "id": "untold"}
            )
            is None
        )
    assert line.run("untold")["mlops:status"] == "accepted"
    line.hand.relay()
    line.hand.deliver("LaunchRun", line.hand.take("LaunchRun", "untold"))
    wait_for(lambda: line.jobs("untold") or None, "the job")


def test_the_bus_is_away_for_ten_minutes(line: Line) -> None:
    """The relay looks once a minute, by a message that it sends itself; nothing becomes a dead
    letter, the age of the oldest event is told all the while, and in the end every event goes, in
    order per item. A bus that refuses one item's events keeps that item's only."""
    names = [f"away-{number}" for number in range(5)]
    item = run_item(**{"mlops:compute": {"engine": "sagemaker"}})
    item["links"][0]["href"] = f"../../{DATA}/items/fields-v1"
    with (
        FakeBus() as bus,
        line.cloud.process(
            "RelayOutboxFunction", AWS_ENDPOINT_URL_EVENTBRIDGE=bus.url, AWS_MAX_ATTEMPTS="1"
        ) as relay,
    ):
        bus.away = True
        for minute in range(10):
            if minute < len(names):
                line.user.create_item(RUNS, {**item, "id": names[minute]})
            else:
                change = {"properties": {"mlops:status": "dismissed"}}
                line.user.merge_patch(RUNS, names[minute - len(names)], change)
            outcome = relay.invoke(queue_json(nudge()))
            assert outcome.json() == {"batchItemFailures": []}, outcome.log
            assert '"OutboxOldestSeconds"' in outcome.log
            assert bus.taken == []
        bus.away = False
        bus.refusing = {names[0]}
        assert relay.invoke(queue_json(nudge())).json() == {"batchItemFailures": []}
        expected = ["run.accepted", "run.dismissed"]
        assert [bus.types_of(name) for name in names] == [[], *[expected] * 4]
        bus.refusing = set()
        assert relay.invoke(queue_json(nudge())).json() == {"batchItemFailures": []}
        assert [bus.types_of(name) for name in names] == [expected] * 5
    assert line.cloud.dead_letters("RelayOutboxFunction") == []
