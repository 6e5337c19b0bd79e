"""Whether an account is ready for SageMaker training jobs."""

from collections.abc import Iterator, Sequence
from functools import partial
from operator import eq

from mlops.engines import EngineRefusedError
from mlops.engines.cloud_settings import SageMakerSettings
from mlops.engines.instance_types import InstanceTypes, read_instance_types, sagemaker_name
from mlops.engines.readiness.account import Account
from mlops.engines.readiness.check import Check, looked
from mlops.storage.s3 import S3Store

_FEW_ADDRESSES = 8


def check_sagemaker(
    account: Account, store: S3Store, settings: SageMakerSettings, wanted: Sequence[str]
) -> Iterator[Check]:
    """Look at role, images, network, key and quotas."""
    name = "SageMaker role"
    yield account.role(name, settings.role, "sagemaker.amazonaws.com")
    yield account.rights(f"{name}: bucket", settings.role, store)
    for framework, uri in settings.images.items():
        yield account.image(f"{framework} (SageMaker)", uri)
    if not settings.images:
        advice = "Build and push an image (infra/images), and name it in the deployment."
        yield Check("images (SageMaker)", False, "there is none", advice)
    if settings.subnets:
        yield _network(account, settings)
    if settings.kms_key is not None:
        yield _key(account, settings.kms_key)
    types = read_instance_types(settings.instance_types)
    for kind in wanted or (settings.default_instance_type,):
        yield from _quotas(account, types, kind)


def _quotas(account: Account, types: InstanceTypes, kind: str) -> Iterator[Check]:
    try:
        plain, machine = types.find(kind, "sagemaker")
    except EngineRefusedError as error:
        yield Check(f"{kind} on SageMaker", False, str(error), "Correct the instance type.")
        return
    full = sagemaker_name(plain)
    gpus = f", {machine.gpus} x {machine.gpu}" if machine.gpus else ""
    for what in ("training job usage", "spot training job usage"):
        quota = f"{full} for {what}"
        check = account.quota(quota, "sagemaker", partial(eq, quota), 1, "machines")
        detail = f"{check.detail}; {machine.vcpus} vCPUs, {machine.memory_gib:g} GiB{gpus}"
        yield Check(check.name, check.ok, detail, check.advice)


def _network(account: Account, settings: SageMakerSettings) -> Check:
    name = "SageMaker network"

    def look() -> Check:
        ec2 = account.client("ec2")
        subnets = ec2.describe_subnets(SubnetIds=settings.subnets)["Subnets"]
        ec2.describe_security_groups(GroupIds=settings.security_groups)
        free = {one["SubnetId"]: int(one["AvailableIpAddressCount"]) for one in subnets}
        said = ", ".join(f"{subnet} has {count} free addresses" for subnet, count in free.items())
        if sum(free.values()) < _FEW_ADDRESSES:
            return Check(name, False, said, "Name subnets with more free addresses.")
        return Check(name, True, said)

    return looked(name, look)


def _key(account: Account, key: str) -> Check:
    name = "KMS key"

    def look() -> Check:
        state = account.client("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"]
        if state != "Enabled":
            return Check(name, False, f"{key} is {state}", "Enable the key or name another one.")
        return Check(name, True, key)

    return looked(name, look)
