"""CloudFormation on LocalStack: a template deployed, its outputs and resources read."""

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.aws.account import REGION
from tests.aws.emulator import LocalStack

_PATIENCE = 180.0
_BUCKET = "templates"


class DeploymentError(Exception):
    """CloudFormation could not make the stack; the message has its reasons."""


@dataclass(frozen=True)
class Stack:
    """A deployed stack. ``resources`` are physical ids by logical id."""

    name: str
    outputs: Mapping[str, str]
    resources: Mapping[str, str]


def deploy(
    localstack: LocalStack,
    name: str,
    template: Mapping[str, Any],
    parameters: Mapping[str, str] | None = None,
) -> Stack:
    """Deploy a template with its SAM transform; the stack lives as long as LocalStack does.

    Raises:
        DeploymentError: a resource could not be made.
    """
    cloudformation = localstack.client("cloudformation")
    cloudformation.create_stack(
        StackName=name,
        TemplateURL=upload(localstack, name, template),
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value}
            for key, value in (parameters or {}).items()
        ],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    return _wait(localstack, name)


def upload(localstack: LocalStack, name: str, template: Mapping[str, Any]) -> str:
    """Put a template into a bucket; its URL. Larger ones cannot be sent in a request."""
    s3 = localstack.client("s3")
    place = {"LocationConstraint": REGION}
    with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=_BUCKET, CreateBucketConfiguration=place)
    key = name.replace("/", "-")
    s3.put_object(Bucket=_BUCKET, Key=key, Body=json.dumps(template).encode())
    return f"{localstack.url}/{_BUCKET}/{key}"


def _wait(localstack: LocalStack, name: str) -> Stack:
    cloudformation = localstack.client("cloudformation")
    deadline = time.monotonic() + _PATIENCE
    stack: dict[str, Any] = {}
    while time.monotonic() < deadline:
        stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        if not stack["StackStatus"].endswith("_IN_PROGRESS"):
            break
        time.sleep(0.2)
    if stack["StackStatus"] != "CREATE_COMPLETE":
        raise DeploymentError(f"{name}: {stack['StackStatus']}\n{_reasons(localstack, name)}")
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
    return Stack(
        name,
        {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", [])},
        {
            one["LogicalResourceId"]: one.get("PhysicalResourceId", "")
            for page in pages
            for one in page["StackResourceSummaries"]
        },
    )


def _reasons(localstack: LocalStack, name: str) -> str:
    events = localstack.client("cloudformation").describe_stack_events(StackName=name)
    told = [
        f"{one['LogicalResourceId']}: {one.get('ResourceStatusReason', 'no reason was given')}"
        for one in events["StackEvents"]
        if one["ResourceStatus"].endswith("FAILED")
    ]
    log = (localstack.folder / "localstack.log").read_text()
    return "\n".join([*told, log[-3000:]])
