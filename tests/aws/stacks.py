"""CloudFormation on LocalStack: a template deployed, its outputs and resources read, removed."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.aws.emulator import LocalStack

_PATIENCE = 180.0


class DeploymentError(Exception):
    """CloudFormation could not make the stack; the message has its reasons."""


@dataclass(frozen=True)
class Stack:
    """A deployed stack. ``resources`` are physical ids by logical id."""

    name: str
    outputs: Mapping[str, str]
    resources: Mapping[str, str]


@contextlib.contextmanager
def deployed(
    localstack: LocalStack,
    name: str,
    template: Mapping[str, Any],
    parameters: Mapping[str, str] | None = None,
) -> Iterator[Stack]:
    """Deploy a template with its SAM transform; the stack is deleted afterwards.

    Raises:
        DeploymentError: a resource could not be made.
    """
    cloudformation = localstack.client("cloudformation")
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=json.dumps(template),
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value}
            for key, value in (parameters or {}).items()
        ],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    try:
        yield _wait(localstack, name)
    finally:
        cloudformation.delete_stack(StackName=name)


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
