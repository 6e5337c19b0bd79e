"""`mlops dlq` on the queues of a stack and on those of one machine."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.exit_codes import ExitCode
from cli.main import app
from infra.local.database import MIGRATIONS
from infra.local.queue import MAX_RECEIVES, LocalQueue
from mlops.engines import JobState, Phase
from mlops.events import BusEvent, Function, job_event
from stac_api.migrate import migrate
from tests.moto_server import Aws

Run = Callable[..., Result]
TEMPLATE = {
    "Resources": {
        name: {"Type": "AWS::SQS::Queue"}
        for name in (
            "LaunchRunQueue",
            "LaunchRunDeadLetters",
            "TrackRunQueue",
            "TrackRunDeadLetters",
        )
    }
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in ("MLOPS_STACK", "MLOPS_HOME", "MLOPS_URL"):
        monkeypatch.delenv(name, raising=False)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, ["dlq", *arguments])


def event(item: str) -> BusEvent:
    return job_event(
        "batch",
        f"job-{item}",
        JobState(Phase.FAILED),
        workspace="alps",
        collection="alps-training-runs",
        item=item,
        attempt=1,
    )


def letters(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    listed: list[dict[str, Any]] = json.loads(result.stdout)["dead_letters"]
    return listed


class TestStack:
    @pytest.fixture
    def queues(self, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
        """URLs by logical id, of a stack that the environment names."""
        cloudformation = aws.client("cloudformation")
        cloudformation.create_stack(StackName="mlops-dev", TemplateBody=json.dumps(TEMPLATE))
        monkeypatch.setenv("MLOPS_STACK", "mlops-dev")
        found = cloudformation.list_stack_resources(StackName="mlops-dev")
        return {
            one["LogicalResourceId"]: one["PhysicalResourceId"]
            for one in found["StackResourceSummaries"]
        }

    @pytest.fixture
    def dead(self, aws: Aws, queues: dict[str, str]) -> list[str]:
        """Ids of a letter of `launch_run` that is no event, and of twelve of `track_run`."""
        sqs = aws.client("sqs")
        reason = {"ERROR_MESSAGE": {"DataType": "String", "StringValue": "no permission"}}
        sent = [
            sqs.send_message(
                QueueUrl=queues["LaunchRunDeadLetters"],
                MessageBody="poison",
                MessageAttributes=reason,
            )
        ]
        for number in range(12):
            body = event(f"r{number}").to_json()
            url = queues["TrackRunDeadLetters"]
            sent.append(sqs.send_message(QueueUrl=url, MessageBody=body))
        return [one["MessageId"] for one in sent]

    def test_list_leaves_them_where_they_are(self, run: Run, dead: list[str]) -> None:
        for _ in range(2):
            listed = letters(run("list", "--json"))
            assert {one["id"] for one in listed} == set(dead)
        poison = next(one for one in listed if one["function"] == "launch_run")
        assert (poison["event"], poison["error"]) == ("poison", "no permission")
        table = run("list", "--function", "track_run")
        assert "job.state-changed r7" in table.stdout
        assert "poison" not in table.stdout

    def test_show(self, run: Run, dead: list[str]) -> None:
        shown = run("show", dead[3])
        assert shown.exit_code == 0
        assert '"item": "r2"' in shown.stdout
        assert run("show", "nothing-like-it").exit_code == ExitCode.NOT_FOUND
        assert run("show", "").exit_code == ExitCode.USAGE

    def test_replay_some(self, run: Run, aws: Aws, queues: dict[str, str], dead: list[str]) -> None:
        assert run("replay", dead[3], dead[12]).exit_code == 0
        again = [body["detail"]["item"] for body in aws.messages(queues["TrackRunQueue"])]
        assert sorted(again) == ["r11", "r2"]
        listed = letters(run("list", "--json"))
        assert {one["id"] for one in listed} == set(dead) - {dead[3], dead[12]}

    def test_replay_all_of_a_function(
        self, run: Run, aws: Aws, queues: dict[str, str], dead: list[str]
    ) -> None:
        done = run("replay", "--all", "--function", "track_run", "--json")
        assert set(json.loads(done.stdout)["replayed"]) == set(dead[1:])
        assert len(aws.messages(queues["TrackRunQueue"])) == 12
        assert [one["function"] for one in letters(run("list", "--json"))] == ["launch_run"]

    def test_what_is_to_be_replayed_must_be_named(self, run: Run, dead: list[str]) -> None:
        assert run("replay").exit_code == ExitCode.USAGE
        assert run("replay", dead[0], "--all").exit_code == ExitCode.USAGE

    def test_a_stack_of_others(self, run: Run, aws: Aws) -> None:
        template = {"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}
        aws.client("cloudformation").create_stack(
            StackName="theirs", TemplateBody=json.dumps(template)
        )
        failed = run("list", "--stack", "theirs")
        assert failed.exit_code == ExitCode.NOT_FOUND
        assert "no queues of dead letters" in failed.stderr
        assert run("list", "--stack", "none").exit_code == ExitCode.FAILED


class TestOneMachine:
    @pytest.fixture
    def queue(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
        migrate(database_url, MIGRATIONS)
        monkeypatch.setenv("MLOPS_DATABASE_URL", database_url)
        queue = LocalQueue(database_url, first_pause=0.0)
        yield queue
        queue.close()

    def test_letters_are_read_and_put_back(self, run: Run, queue: LocalQueue) -> None:
        assert run("list").stderr.strip() == "There are no dead letters."
        queue.publish(event("r1"))
        for _ in range(MAX_RECEIVES):
            (message,) = queue.take()
            queue.failed(message, "RuntimeError: told to")
        (letter,) = letters(run("list", "--json"))
        assert (letter["function"], letter["error"]) == ("track_run", "RuntimeError: told to")
        assert run("replay", letter["id"]).exit_code == 0
        assert letters(run("list", "--json")) == []
        (again,) = queue.take()
        assert (again.function, again.receives) == (Function.TRACK_RUN, 1)
        assert run("replay", letter["id"]).exit_code == ExitCode.NOT_FOUND
