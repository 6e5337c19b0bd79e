"""What both engines need of an account: identity, bucket, roles, images, quotas."""

import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any
from urllib.parse import unquote

from mlops.engines.readiness.check import Check, looked
from mlops.storage import StorageError
from mlops.storage.s3 import S3Store

Clients = Callable[[str], Any]
"""Makes the boto3 client of a service."""

_ECR = re.compile(
    r"\A(?P<registry>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/"
    r"(?P<repository>[^:@]+)(:(?P<tag>[^@]+))?(@(?P<digest>sha256:[0-9a-f]{64}))?\Z"
)
JOB_ACTIONS = ("s3:GetObject", "s3:PutObject")
"""What a job does with the objects of the store."""


class Account:
    """An account in one region, seen with one's own rights; each client is made once."""

    def __init__(self, clients: Clients) -> None:
        self.client: Clients = cache(clients)
        self._quotas = cache(self._list_quotas)

    def identity(self) -> Check:
        """Who looks."""

        def look() -> Check:
            sts = self.client("sts")
            caller = sts.get_caller_identity()
            detail = f"{caller['Account']} in {sts.meta.region_name}, as {caller['Arn']}"
            return Check("account", True, detail)

        return looked("account", look)

    def bucket(self, store: S3Store) -> Check:
        """Whether the object store takes and gives."""
        try:
            store.check()
        except StorageError as error:
            return Check("bucket", False, str(error), "Correct the bucket's name or its policy.")
        return Check("bucket", True, f"{store.url} can be written and read")

    def role(self, name: str, arn: str, service: str) -> Check:
        """Whether a role is there and ``service`` may take it on."""

        def look() -> Check:
            role = self.client("iam").get_role(RoleName=arn.rsplit("/", 1)[-1])["Role"]
            trust = role["AssumeRolePolicyDocument"]
            policy = json.loads(unquote(trust)) if isinstance(trust, str) else trust
            if service in _trusted(policy):
                return Check(name, True, arn)
            advice = f"Add a statement for {service} (sts:AssumeRole) to the role's trust policy."
            return Check(name, False, f"{service} may not take on {arn}", advice)

        return looked(name, look)

    def rights(self, name: str, arn: str, store: S3Store) -> Check:
        """Whether a role may do in the store what jobs do there."""

        def look() -> Check:
            partition = arn.split(":")[1]
            objects = f"arn:{partition}:s3:::{store.bucket}/{store.name('_jobs/probe')}"
            answer = self.client("iam").simulate_principal_policy(
                PolicySourceArn=arn, ActionNames=list(JOB_ACTIONS), ResourceArns=[objects]
            )
            denied = [
                one["EvalActionName"]
                for one in answer["EvaluationResults"]
                if one["EvalDecision"] != "allowed"
            ]
            if not denied:
                return Check(name, True, f"may read and write {store.url}")
            advice = f"Allow {', '.join(denied)} on the bucket's objects in the role's policy."
            return Check(name, False, f"may not {', '.join(denied)} in {store.url}", advice)

        return looked(name, look)

    def image(self, framework: str, uri: str) -> Check:
        """Whether an image is in its registry."""
        name = f"image {framework}"
        parts = _ECR.match(uri)
        if parts is None:
            return Check(name, None, f"{uri} is not in ECR and cannot be looked at")

        def look() -> Check:
            if parts["digest"]:
                wanted = {"imageDigest": parts["digest"]}
            else:
                wanted = {"imageTag": parts["tag"] or "latest"}
            (found,) = self.client("ecr").describe_images(
                registryId=parts["registry"],
                repositoryName=parts["repository"],
                imageIds=[wanted],
            )["imageDetails"]
            size = int(found.get("imageSizeInBytes", 0)) / 1e9
            own = self.client("ecr").meta.region_name
            if parts["region"] != own:
                advice = f"Push the image to a registry in {own}."
                return Check(name, False, f"{uri} is in another region", advice)
            return Check(name, True, f"{uri}, {size:.1f} GB")

        return looked(name, look)

    def quota(
        self, name: str, service: str, matches: Callable[[str], bool], needed: float, unit: str
    ) -> Check:
        """Whether the quota whose name ``matches`` is at least ``needed``."""

        def look() -> Check:
            found = [one for one in self._quotas(service) if matches(one[0])]
            if not found:
                return Check(name, None, "Service Quotas knows no such quota in this region")
            quota, value = max(found, key=lambda one: one[1])
            said = f"{value:g} {unit} ({quota})"
            if value >= needed:
                return Check(name, True, said)
            advice = f"Have it raised to at least {needed:g} in Service Quotas ({service})."
            return Check(name, False, said, advice)

        return looked(name, look)

    def _list_quotas(self, service: str) -> Sequence[tuple[str, float]]:
        pages = (
            self.client("service-quotas")
            .get_paginator("list_service_quotas")
            .paginate(ServiceCode=service)
        )
        return [(one["QuotaName"], float(one["Value"])) for page in pages for one in page["Quotas"]]


def _trusted(policy: dict[str, Any]) -> set[str]:
    """The services that a trust policy lets take on its role."""
    services: set[str] = set()
    statements = policy.get("Statement", [])
    for statement in statements if isinstance(statements, list) else [statements]:
        if statement.get("Effect") != "Allow" or not isinstance(statement["Principal"], dict):
            continue
        named = statement["Principal"].get("Service", [])
        services |= {named} if isinstance(named, str) else set(named)
    return services
