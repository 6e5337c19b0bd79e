"""Every AWS call that a function makes is one that its role allows; what is allowed and was not
needed is listed here, with its reason.

LocalStack enforces no policies, so the calls are noted (`lambda_bootstrap`) and held against the
policies as CloudFormation resolved them.
"""

import json
from collections import defaultdict
from typing import Any

import pytest

from tests.aws.cloud import Cloud, wait_for
from tests.aws.iam import Allowed, Call, Need, allowed_by, needs_of
from tests.aws.scenarios import Runs, event_of_run, publish, rotate_secret, round_trip

FUNCTIONS = (
    "StacApi",
    "LaunchRun",
    "TrackRun",
    "RegisterModel",
    "PublishResource",
    "Reconcile",
    "RelayOutbox",
    "MigrateDatabase",
    "RotateTokenSecret",
)
LAMBDA_S = {
    "sqs:ReceiveMessage": "event source mapping",
    "sqs:DeleteMessage": "event source mapping",
    "sqs:GetQueueAttributes": "event source mapping",
    "logs:CreateLogStream": "log of the function",
    "logs:PutLogEvents": "log of the function",
    "xray:PutTraceSegments": "tracing",
    "xray:PutTelemetryRecords": "tracing",
    "ec2:CreateNetworkInterface": "network",
    "ec2:DeleteNetworkInterface": "network",
    "ec2:AssignPrivateIpAddresses": "network",
    "ec2:UnassignPrivateIpAddresses": "network",
    "ec2:DescribeNetworkInterfaces": "network",
    "ec2:DescribeSubnets": "network",
    "ec2:DescribeSecurityGroups": "network",
    "ec2:DescribeVpcs": "network",
}
"""What Lambda itself does in the role of a function."""
LISTING = "tells an object that is missing (404) from one that may not be read (403)"
UNUSED = {
    "s3:ListBucket": LISTING,
    "s3:AbortMultipartUpload": "an upload of a large file that fails half-way",
    "batch:ListJobs": "a claim of a submission that has no id",
    "sqs:SendMessage": "a second attempt that waits for a busy engine",
    "Reconcile s3:GetObject": "a run on Batch whose job has no id yet; seldom met in these tests",
    "LaunchRun s3:GetObject": "a submission to Batch that was claimed before; test_faults has some",
    "batch:DescribeJobs": "to stop a job that Batch refuses to stop",
}
"""What the tests do not make a function do: by action, or by function and action."""


@pytest.fixture(scope="module")
def calls(cloud: Cloud, runs: Runs) -> dict[str, list[Call]]:
    """All AWS calls, by function, after a run of each kind."""
    runs.wait_for_all()
    publish(runs, "plain")
    rotate_secret(cloud)
    round_trip(runs.user, b"another file")
    for name in ("plain", "batch"):
        # Their runs have ended, so what was started late would be stopped.
        cloud.send("LaunchRunQueue", event_of_run(name, "accepted"))
    wait_for(
        lambda: cloud.log_of("LaunchRunFunction").count("dropped: the run has ended") >= 2 or None,
        "the late events to be dropped",
        tell=cloud.tell,
    )
    logical = {cloud.stack.resources[f"{name}Function"]: name for name in FUNCTIONS}
    logical |= {f"{name}Function": name for name in FUNCTIONS}
    by_function: dict[str, list[Call]] = defaultdict(list)
    for line in cloud.localstack.calls.read_text().splitlines():
        call = json.loads(line)
        by_function[logical[call["function"]]].append(call)
    return by_function


def role_of(cloud: Cloud, function: str) -> list[Allowed]:
    """What a function's role allows."""
    iam = cloud.localstack.client("iam")
    role = cloud.stack.resources[f"{function}Role"]
    documents: list[dict[str, Any]] = [
        iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        for name in iam.list_role_policies(RoleName=role)["PolicyNames"]
    ]
    for policy in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        arn = policy["PolicyArn"]
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        answer = iam.get_policy_version(PolicyArn=arn, VersionId=version)
        documents.append(answer["PolicyVersion"]["Document"])
    return allowed_by(documents)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_role_allows_what_its_function_does(
    cloud: Cloud, calls: dict[str, list[Call]], function: str
) -> None:
    assert calls[function], f"{function} was not exercised"
    allowed = role_of(cloud, function)
    needs: set[Need] = {need for call in calls[function] for need in needs_of(call)}
    missing = sorted(need for need in needs if not any(one.covers(need) for one in allowed))
    assert missing == []


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_role_allows_nothing_without_a_reason(
    cloud: Cloud, calls: dict[str, list[Call]], function: str
) -> None:
    needs = {need for call in calls[function] for need in needs_of(call)}
    unused = {
        one.action
        for one in role_of(cloud, function)
        if one.action not in LAMBDA_S and not any(one.covers(need) for need in needs)
    }
    print(f"{function} may and did not: {', '.join(sorted(unused)) or 'nothing'}")
    unexpected = [
        action for action in sorted(unused) if not {action, f"{function} {action}"} & UNUSED.keys()
    ]
    assert unexpected == []
