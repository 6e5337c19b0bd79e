"""A message that cannot be handled: dead-letter queue, alarm, `mlops dlq`.

It is sent when the other runs begin (`Runs`) and looked for here, after them: an alarm takes its
minute.
"""

import json
import os
import subprocess
import sys
from typing import Any

from tests.aws.account import credentials
from tests.aws.cloud import STACK, Cloud, wait_for
from tests.aws.emulator import REPOSITORY
from tests.aws.scenarios import POISON, FakeCatalogue, Runs


def test_a_poisoned_message_and_the_way_back(
    cloud: Cloud, runs: Runs, catalogue: FakeCatalogue
) -> None:
    """It ends in the dead-letter queue, an alarm tells of it, and once what failed is mended it is
    put back."""
    assert runs.items
    wait_for(lambda: cloud.dead_letters("PublishResourceFunction") or None, "the dead letter")
    (letter,) = dlq(cloud, "list")["dead_letters"]
    assert letter["function"] == "publish_resource"
    assert dlq(cloud, "show", letter["id"])["event"]["detail"]["item"] == "fields-v1"

    cloudwatch = cloud.localstack.client("cloudwatch")

    queue = cloud.stack.resources["PublishResourceDeadLetters"].rpartition("/")[2]

    def alarms() -> list[str] | None:
        found = cloudwatch.describe_alarms(StateValue="ALARM")["MetricAlarms"]
        return [
            alarm["AlarmName"]
            for alarm in found
            if {"Name": "QueueName", "Value": queue} in alarm["Dimensions"]
        ] or None

    # LocalStack looks once a minute, as the alarm says.
    wait_for(alarms, "the alarm", patience=150, tell=cloud.tell)

    catalogue.broken_for.clear()
    assert dlq(cloud, "replay", "--all")["replayed"] == [letter["id"]]
    wait_for(lambda: catalogue.entries.get(POISON), "the entry", tell=cloud.tell)
    # Nor has anything else become one in all these tests.
    assert dlq(cloud, "list")["dead_letters"] == []


def dlq(cloud: Cloud, *arguments: str) -> Any:
    """What `mlops dlq` answers."""
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "dlq", *arguments, "--stack", STACK, "--json"],
        env={**os.environ, **credentials(), "AWS_ENDPOINT_URL": cloud.localstack.url},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
