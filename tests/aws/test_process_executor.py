"""A small stack on LocalStack: what the larger tests rest on works by itself.

Rule, queue, event source mapping and function; partial failures, redelivery, dead-letter queue.
"""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.aws.emulator import LocalStack
from tests.aws.stacks import Stack, deploy

CODE = """
import json, os

def handler(event, context):
    failed = []
    for record in event["Records"]:
        detail = json.loads(record["body"])["detail"]
        print("got", detail["n"], record["attributes"]["ApproximateReceiveCount"])
        if detail.get("crash"):
            os._exit(3)
        if detail.get("poison"):
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}
"""


def template(folder: Path) -> dict[str, Any]:
    """The stack; its function is taken from the folder as it is."""
    redrive = {"deadLetterTargetArn": {"Fn::GetAtt": ["Dead", "Arn"]}, "maxReceiveCount": 2}
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Transform": "AWS::Serverless-2016-10-31",
        "Resources": {
            "Bus": {"Type": "AWS::Events::EventBus", "Properties": {"Name": "small"}},
            "Dead": {"Type": "AWS::SQS::Queue"},
            "Queue": {
                "Type": "AWS::SQS::Queue",
                "Properties": {"VisibilityTimeout": 1, "RedrivePolicy": redrive},
            },
            "Rule": {
                "Type": "AWS::Events::Rule",
                "Properties": {
                    "EventBusName": {"Ref": "Bus"},
                    "EventPattern": {"detail-type": ["wanted"]},
                    "Targets": [{"Id": "queue", "Arn": {"Fn::GetAtt": ["Queue", "Arn"]}}],
                },
            },
            "Small": {
                "Type": "AWS::Serverless::Function",
                "Properties": {
                    "Handler": "app.handler",
                    "Runtime": "python3.11",
                    "CodeUri": {"Bucket": "hot-reload", "Key": str(folder)},
                    "Timeout": 5,
                    "Events": {
                        "Queue": {
                            "Type": "SQS",
                            "Properties": {
                                "Queue": {"Fn::GetAtt": ["Queue", "Arn"]},
                                "BatchSize": 10,
                                "FunctionResponseTypes": ["ReportBatchItemFailures"],
                            },
                        }
                    },
                },
            },
        },
    }


@pytest.fixture
def stack(localstack: LocalStack, tmp_path: Path) -> Stack:
    """The small stack, deployed."""
    (tmp_path / "app.py").write_text(CODE)
    return deploy(localstack, "small", template(tmp_path))


def test_rule_queue_function_and_dead_letters(localstack: LocalStack, stack: Stack) -> None:
    details = [{"n": n, "poison": n == 3} for n in range(9)]
    entries = [
        {"Source": "t", "DetailType": "wanted", "Detail": json.dumps(d), "EventBusName": "small"}
        for d in details
    ]
    unwanted = {**entries[0], "DetailType": "unwanted", "Detail": json.dumps({"n": 99})}
    bus = localstack.client("events")
    bus.put_events(Entries=[*entries, unwanted])
    assert dead_letters(localstack, stack, 1) == {3}
    crash = {**entries[0], "Detail": json.dumps({"n": 10, "crash": True})}
    bus.put_events(Entries=[crash])
    assert dead_letters(localstack, stack, 1) == {10}

    got = sorted(
        line.removeprefix("got ")
        for line in localstack.log_of(stack.resources["Small"]).splitlines()
        if line.startswith("got ")
    )
    once = [f"{n} 1" for n in (0, 1, 2, 4, 5, 6, 7, 8)]
    assert got == sorted([*once, "3 1", "3 2", "10 1", "10 2"])


def dead_letters(localstack: LocalStack, stack: Stack, count: int) -> set[int]:
    """Numbers of the events in the dead-letter queue, once there are so many."""
    sqs = localstack.client("sqs")
    numbers: set[int] = set()
    deadline = time.monotonic() + 30
    while len(numbers) < count and time.monotonic() < deadline:
        received = sqs.receive_message(QueueUrl=stack.resources["Dead"], WaitTimeSeconds=1)
        numbers |= {json.loads(m["Body"])["detail"]["n"] for m in received.get("Messages", [])}
    return numbers
