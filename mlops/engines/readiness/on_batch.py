"""Whether an account is ready for jobs on AWS Batch."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mlops.engines import EngineRefusedError
from mlops.engines.cloud_settings import BatchSettings
from mlops.engines.instance_types import InstanceTypes, read_instance_types
from mlops.engines.readiness.account import Account
from mlops.engines.readiness.check import Check, looked
from mlops.storage.s3 import S3Store

_TASKS = "ecs-tasks.amazonaws.com"
_STANDARD = "Standard (A, C, D, H, I, M, R, T, Z)"


def check_batch(
    account: Account, store: S3Store, settings: BatchSettings, wanted: Sequence[str]
) -> Iterator[Check]:
    """Look at queues with their compute environments, job definitions, images and quotas."""
    queues = settings.queues.model_dump(exclude_none=True)
    for kind, queue in queues.items():
        yield _queue(account, f"Batch queue {kind}", queue)
    if not queues:
        yield Check("Batch queues", False, "there is none", "Name at least one in the deployment.")
    definitions = {**settings.job_definitions}
    definitions |= {
        f"{framework} on several machines": definition
        for framework, definition in settings.multi_node_job_definitions.items()
    }
    for framework, definition in definitions.items():
        yield from _definition(account, store, framework, definition)
    if not settings.job_definitions:
        advice = "Build and push an image (infra/images), and name it in the deployment."
        yield Check("Batch job definitions", False, "there is none", advice)
    types = read_instance_types(settings.instance_types)
    for kind in wanted or (settings.default_instance_type,):
        yield from _quotas(account, types, kind, spot=settings.queues.gpu_spot is not None)


def _queue(account: Account, name: str, queue: str) -> Check:
    def look() -> Check:
        batch = account.client("batch")
        found = batch.describe_job_queues(jobQueues=[queue])["jobQueues"]
        if not found:
            return Check(name, False, f"there is no queue {queue}", "Correct its name.")
        (described,) = found
        environments = [one["computeEnvironment"] for one in described["computeEnvironmentOrder"]]
        faults = [_fault(described, f"queue {queue}")]
        if environments:
            answer = batch.describe_compute_environments(computeEnvironments=environments)
            faults += [
                _fault(one, f"compute environment {one['computeEnvironmentName']}")
                for one in answer["computeEnvironments"]
            ]
        else:
            faults.append(f"queue {queue} has no compute environment")
        said = "; ".join(fault for fault in faults if fault)
        if said:
            return Check(name, False, said, "See the resource's reason in the console of Batch.")
        return Check(name, True, f"{queue}, {len(environments)} compute environments")

    return looked(name, look)


def _fault(described: dict[str, Any], what: str) -> str | None:
    if described.get("state") != "ENABLED":
        return f"{what} is {described.get('state')}"
    if described.get("status") != "VALID":
        return f"{what} is {described.get('status')}: {described.get('statusReason', '')}"
    return None


def _definition(
    account: Account, store: S3Store, framework: str, definition: str
) -> Iterator[Check]:
    name = f"Batch job definition {framework}"
    containers: list[dict[str, Any]] = []

    def look() -> Check:
        found = _active_definition(account, definition)
        if found is None:
            advice = "Deploy again, so that the functions know the newest definition."
            return Check(name, False, f"{definition} is not there or not active", advice)
        containers.append(_container(found))
        return Check(name, True, f"{definition}, revision {found['revision']}")

    yield looked(name, look)
    for container in containers:
        yield account.image(f"{framework} (Batch)", str(container.get("image", "")))
        if role := container.get("jobRoleArn"):
            yield account.role(f"{name}: role", role, _TASKS)
            yield account.rights(f"{name}: bucket", role, store)
        else:
            advice = "Give the job definition a jobRoleArn that may use the bucket."
            yield Check(f"{name}: role", False, "its jobs have no role", advice)


def _active_definition(account: Account, definition: str) -> dict[str, Any] | None:
    batch = account.client("batch")
    if ":" in definition:
        answer = batch.describe_job_definitions(jobDefinitions=[definition])
    else:
        answer = batch.describe_job_definitions(jobDefinitionName=definition, status="ACTIVE")
    active = [one for one in answer["jobDefinitions"] if one.get("status") == "ACTIVE"]
    return max(active, key=lambda one: int(one["revision"]), default=None)


def _container(definition: dict[str, Any]) -> dict[str, Any]:
    if "containerProperties" in definition:
        return dict(definition["containerProperties"])
    ranges = definition.get("nodeProperties", {}).get("nodeRangeProperties", [])
    return dict(ranges[0].get("container", {})) if ranges else {}


def _quotas(account: Account, types: InstanceTypes, kind: str, *, spot: bool) -> Iterator[Check]:
    try:
        plain, machine = types.find(kind, "batch")
    except EngineRefusedError as error:
        yield Check(f"{kind} on Batch", False, str(error), "Correct the instance type.")
        return
    on_demand, on_spot = _quota_names(plain)
    need = machine.vcpus
    yield account.quota(f"EC2 vCPUs for {plain}", "ec2", on_demand, need, "vCPUs")
    if spot and machine.gpus:
        yield account.quota(f"EC2 spot vCPUs for {plain}", "ec2", on_spot, need, "vCPUs")


def _quota_names(plain: str) -> tuple[Callable[[str], bool], Callable[[str], bool]]:
    """How EC2's quotas for a type are called: on-demand and spot, counted in vCPUs."""
    family = plain.partition(".")[0]
    if family.startswith("g"):
        classes, lent = "G and VT", r"\bG and VT\b"
    elif family.startswith("p"):
        classes, lent = "P", r"\bP5\b" if family.startswith(("p5", "p6")) else r"\bP4\b"
    else:
        classes, lent = _STANDARD, re.escape(_STANDARD)
    wanted = f"Running On-Demand {classes} instances"
    spot = re.compile(rf"\AAll .*{lent}.* Spot Instance Requests\Z")
    return (lambda name: name == wanted), (lambda name: spot.match(name) is not None)
