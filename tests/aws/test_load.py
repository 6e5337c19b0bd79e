"""Two thousand runs asked for at once: every one gets its job, and one job only, while the engine
takes so many at a time and so many requests a second.

First it takes very few, until it has refused many; then as many as the functions can ask for, or a
little fewer, so that the test takes as long as they do. Waits for a busy engine are minutes; here
they are seconds (`LAMBDA_BOOTSTRAP_SET`), and jobs go 60 times as fast as the clock.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.aws.by_hand import by_hand
from tests.aws.cloud import Cloud, wait_for
from tests.aws.event_source import EventSource
from tests.aws.fake_engines import scripts
from tests.aws.fake_engines.sagemaker import FakeSageMaker
from tests.aws.scenarios import Runs
from tests.integration.conftest import dataset_item, run_item

RUNS = 2000
SPEED = 60.0
BY_QUOTA, BY_RATE = 60, 20
"""How often the engine refuses a job at least: it has no machine, or is asked too often."""
PATIENCE = 420.0
WORKSPACE = "load"
SHORT_WAITS = (
    "mlops.engines.aws_errors:_QUOTA_SECONDS=6.0;mlops.engines.aws_errors:_THROTTLED_SECONDS=3.0"
)


@dataclass(frozen=True)
class Room:
    """What the engine takes. ``machines`` is its quota, ``training`` seconds of its clock."""

    machines: int
    requests_a_second: float
    training: float

    def give(self, sagemaker: FakeSageMaker) -> None:
        """Take so many from now on."""
        sagemaker.script = lambda _request: scripts.sagemaker_success(5, self.training)
        sagemaker.quotas = {"ml.g5.xlarge": self.machines}
        rate = self.requests_a_second / SPEED
        sagemaker.faults.throttle("CreateTrainingJob", rate, burst=5)


LITTLE = Room(machines=5, requests_a_second=8.0, training=75)
"""Three jobs a second."""
MUCH = Room(machines=20, requests_a_second=40.0, training=20)
"""34 jobs a second."""


def test_two_thousand_runs_at_once(cloud: Cloud, runs: Runs) -> None:
    runs.wait_for_all()
    user = cloud.user()
    user.request("POST", "/workspaces", json={"id": WORKSPACE})
    user.create_item(f"{WORKSPACE}-training-data", dataset_item())
    sagemaker = cloud.fakes.sagemaker
    before = set(sagemaker.jobs)
    asked = sagemaker.calls.count("CreateTrainingJob")
    throttled = sagemaker.faults.throttled
    LITTLE.give(sagemaker)
    sagemaker.most_running = 0

    def refused() -> tuple[int, int]:
        """How many requests so far: for want of a machine, and because there were too many."""
        made = sagemaker.calls.count("CreateTrainingJob") - asked
        by_rate = sagemaker.faults.throttled - throttled
        return made - (len(sagemaker.jobs) - len(before)) - by_rate, by_rate

    # Nobody is told how they end: this is about how they begin.
    cloud.fakes.deliver = lambda _events: []

    collection = f"{WORKSPACE}-training-runs"
    with (
        by_hand(cloud),
        _forgotten(cloud, collection),
        EventSource(cloud, "RelayOutbox"),
        EventSource(cloud, "LaunchRun", LAMBDA_BOOTSTRAP_SET=SHORT_WAITS) as launching,
    ):
        begin = time.monotonic()
        items = [_item(number) for number in range(RUNS)]
        user.request(
            "POST",
            f"/collections/{collection}/items",
            json={"type": "FeatureCollection", "features": items},
        )
        posted = time.monotonic() - begin

        def enough_refused() -> bool | None:
            by_quota, by_rate = refused()
            return (by_quota >= BY_QUOTA and by_rate >= BY_RATE) or None

        wait_for(enough_refused, "the engine to refuse many", PATIENCE, cloud.tell)
        most_in_little = sagemaker.most_running
        MUCH.give(sagemaker)
        tight = time.monotonic() - begin

        def launched() -> bool | None:
            return len(sagemaker.jobs) - len(before) >= RUNS or None

        wait_for(launched, "a job for every run", PATIENCE, cloud.tell)

        def linked() -> dict[str, str] | None:
            jobs = {
                run["id"]: run["properties"].get("mlops:job", {}).get("id")
                for run in user.search(collections=[collection], limit=1000)
            }
            return jobs if None not in jobs.values() else None

        found = wait_for(linked, "every run to have its job", tell=cloud.tell)
        seconds = time.monotonic() - begin
    jobs = set(sagemaker.jobs) - before
    assert len(found) == RUNS
    assert set(found.values()) == jobs
    assert len(jobs) == RUNS
    assert launching.failed == 0
    assert cloud.dead_letters("LaunchRunFunction") == []
    assert most_in_little == LITTLE.machines
    assert sagemaker.most_running <= MUCH.machines
    by_quota, by_rate = refused()
    print(
        f"{RUNS} runs: posted in {posted:.1f} s, launched in {seconds:.1f} s "
        f"({RUNS / seconds:.1f} a second), with little room for {tight:.1f} s of them; refused "
        f"{by_quota} times for want of a machine, {by_rate} times for too many requests"
    )


@contextlib.contextmanager
def _forgotten(cloud: Cloud, collection: str) -> Iterator[None]:
    """Afterwards there are no open runs that others would find and ask after."""
    yield
    cloud.fakes.sagemaker.quotas = {}
    with psycopg.connect(cloud.database_url) as connection:
        connection.execute("DELETE FROM pgstac.items WHERE collection = %s", (collection,))


def _item(number: int) -> dict[str, Any]:
    item = run_item(**{"mlops:compute": {"engine": "sagemaker"}})
    item["links"][0]["href"] = f"../../{WORKSPACE}-training-data/items/fields-v1"
    return {**item, "id": f"load-{number:04}"}
