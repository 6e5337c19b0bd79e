"""Runs through the deployed stack: outbox, bus, rule, queue, event source mapping, function,
engine, the engine's event, function, model Item.

The functions are the built packages under AWS's own runtime client; the stack is `template.yaml`,
changed as `deployment` lists.
"""

import json

import pytest

from tests.aws.cloud import Cloud, wait_for
from tests.aws.scenarios import (
    FakeCatalogue,
    Runs,
    publish,
    rotate_secret,
    round_trip,
)


@pytest.mark.parametrize("name", ["plain", "batch", "spot-taken", "twice"])
def test_from_a_posted_run_to_a_model(runs: Runs, name: str) -> None:
    properties = runs.ended(name)
    assert properties["mlops:status"] == "successful", properties
    assert properties["mlops:requested_by"] == "ada"
    assert properties["mlops:exit"]["code"] == 0
    assert len(runs.jobs(name)) == 1
    (model,) = runs.models(name)
    assert model["properties"]["mlops:onnx"]["checked"] is True


@pytest.mark.parametrize("name", ["second-attempt", "batch-second-attempt"])
def test_the_next_attempt_succeeds(runs: Runs, name: str) -> None:
    properties = runs.ended(name)
    assert (properties["mlops:status"], properties["mlops:attempt"]) == ("successful", 2)
    assert len(runs.jobs(name)) == 2


@pytest.mark.parametrize(("name", "words"), [("no-image", "image"), ("batch-memory", "memory")])
def test_a_failure_tells_its_reason(runs: Runs, name: str, words: str) -> None:
    properties = runs.ended(name)
    assert properties["mlops:status"] == "failed"
    assert words in properties["mlops:exit"]["reason"]
    assert runs.models(name) == []


@pytest.mark.parametrize("name", ["dismissed", "batch-dismissed"])
def test_a_dismissed_run_stops_its_job(runs: Runs, name: str) -> None:
    runs.dismiss(name)
    wait_for(lambda: runs.has_ended(name) or None, "its end", tell=runs.cloud.tell)
    assert runs.ended(name)["mlops:status"] == "dismissed"


def test_lost_events_are_made_good_by_the_schedule(cloud: Cloud, runs: Runs) -> None:
    """`launch_run` arms the schedule; it finds the ends of jobs of which nobody told, and is
    disarmed when there is no open run any more."""
    assert runs.ended("lost")["mlops:status"] == "successful"
    assert runs.ended("batch-lost")["mlops:status"] == "failed"
    for name in ("dismissed", "batch-dismissed"):
        runs.dismiss(name)
    assert cloud.scheduler.ticks
    wait_for(lambda: not cloud.scheduler.is_armed or None, "its end", tell=cloud.tell)


def test_files_go_straight_to_the_bucket_and_back(runs: Runs) -> None:
    content = b"a dataset's file"
    assert round_trip(runs.user, content) == content


def test_a_throttled_run_waits_and_is_launched(runs: Runs) -> None:
    properties = runs.ended("throttled")
    assert properties["mlops:status"] == "successful"
    assert len(runs.jobs("throttled")) == 1


def test_what_is_published_is_registered(
    cloud: Cloud, runs: Runs, catalogue: FakeCatalogue
) -> None:
    runs.ended("plain")
    publish(runs, "plain")
    wait_for(lambda: len(catalogue.entries) or None, "the entry", tell=cloud.tell)


def test_a_secret_is_rotated_twice_under_running_functions(cloud: Cloud, runs: Runs) -> None:
    """Secrets Manager asks the function for new ones. Once rotated, the old secret still counts;
    when it came to light it is rotated again, and what running functions hold is worthless."""
    runs.wait_for_all()
    secret = cloud.stack.resources["TokenSecret"]
    read = cloud.localstack.client("secretsmanager").get_secret_value
    first = json.loads(read(SecretId=secret)["SecretString"])["secret"]
    previous, second = rotate_secret(cloud)
    assert previous == first != second
    previous, third = rotate_secret(cloud)
    assert previous == second != third
    runs.submit("rotated")
    assert runs.ended("rotated")["mlops:status"] == "successful"
