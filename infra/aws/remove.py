"""Removes a deployment; its data stays unless it is told otherwise.

``python infra/aws/remove.py STACK`` deletes the stack. What is left are the buckets with data and
access logs, and a snapshot of the database; it says where. ``--delete-data`` deletes those too.
Needs boto3 and the rights of who deployed.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

_BUCKET = "AWS::S3::Bucket"
_CLUSTER = "AWS::RDS::DBCluster"
_STACK = "AWS::CloudFormation::Stack"
# What no template makes again. The bucket of the web UI is filled from a release.
_DATA = ("StorageBucket", "AccessLogBucket")
_BATCH = 1000


class RemovalError(Exception):
    """The deployment cannot be removed as asked; the message says what to do."""


@dataclass
class Deployment:
    """What of a stack has to be looked after when it is removed."""

    stack: str
    data_buckets: list[str] = field(default_factory=list)
    other_buckets: list[str] = field(default_factory=list)
    clusters: list[str] = field(default_factory=list)


class Removal:
    """Removes a deployment with the clients of boto3 that ``make_client`` makes of a name."""

    def __init__(self, make_client: Callable[[str], Any], say: Callable[[str], None]) -> None:
        self._stacks = make_client("cloudformation")
        self._s3 = make_client("s3")
        self._rds = make_client("rds")
        self._say = say

    def find(self, stack: str) -> Deployment:
        """Look at a stack and the stacks in it.

        Raises:
            RemovalError: there is no such stack.
        """
        try:
            described = self._stacks.describe_stacks(StackName=stack)["Stacks"][0]
        except self._stacks.exceptions.ClientError as error:
            raise RemovalError(f"There is no stack {stack} here: {error}") from error
        found = Deployment(described["StackId"])
        for resource in self._resources(found.stack):
            name, identity = resource["LogicalResourceId"], resource.get("PhysicalResourceId")
            if resource["ResourceType"] == _BUCKET and identity:
                (found.data_buckets if name in _DATA else found.other_buckets).append(identity)
            if resource["ResourceType"] == _CLUSTER and identity:
                found.clusters.append(identity)
        return found

    def remove(self, deployment: Deployment, *, delete_data: bool, unprotect: bool) -> None:
        """Delete the stack, and its data when ``delete_data``.

        ``unprotect`` allows a database that refuses to be deleted (Stage=prod) to be deleted; it
        leaves a snapshot as others do.

        Raises:
            RemovalError: the database is protected, or CloudFormation could not delete something.
        """
        self._unprotect(deployment, unprotect)
        for bucket in deployment.other_buckets:
            self.empty(bucket)
        self._say("deleting the stack (Aurora takes some minutes)")
        self._stacks.delete_stack(StackName=deployment.stack)
        try:
            self._stacks.get_waiter("stack_delete_complete").wait(StackName=deployment.stack)
        except self._stacks.exceptions.ClientError as error:
            raise RemovalError(f"The stack could not be deleted: {error}") from error
        snapshots = [one for name in deployment.clusters for one in self._snapshots(name)]
        for bucket in deployment.data_buckets:
            if delete_data:
                self.empty(bucket)
                self._s3.delete_bucket(Bucket=bucket)
            self._say(f"{'deleted' if delete_data else 'kept'}: bucket {bucket}")
        for snapshot in snapshots:
            if delete_data:
                self._rds.delete_db_cluster_snapshot(DBClusterSnapshotIdentifier=snapshot)
            self._say(f"{'deleted' if delete_data else 'kept'}: database snapshot {snapshot}")

    def empty(self, bucket: str) -> None:
        """Delete every version of every object of a bucket, and uploads that were never ended."""
        self._say(f"emptying bucket {bucket}")
        versions = self._s3.get_paginator("list_object_versions").paginate(Bucket=bucket)
        for page in versions:
            keys = [
                {"Key": one["Key"], "VersionId": one["VersionId"]}
                for kind in ("Versions", "DeleteMarkers")
                for one in page.get(kind, [])
            ]
            for start in range(0, len(keys), _BATCH):
                batch = {"Objects": keys[start : start + _BATCH], "Quiet": True}
                answer = self._s3.delete_objects(Bucket=bucket, Delete=batch)
                if answer.get("Errors"):
                    raise RemovalError(f"Not all of {bucket} can be deleted: {answer['Errors'][0]}")
        uploads = self._s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket)
        for page in uploads:
            for one in page.get("Uploads", []):
                self._s3.abort_multipart_upload(
                    Bucket=bucket, Key=one["Key"], UploadId=one["UploadId"]
                )

    def _resources(self, stack: str) -> Iterator[dict[str, Any]]:
        pages = self._stacks.get_paginator("list_stack_resources").paginate(StackName=stack)
        for page in pages:
            for resource in page["StackResourceSummaries"]:
                yield resource
                if resource["ResourceType"] == _STACK and resource.get("PhysicalResourceId"):
                    yield from self._resources(resource["PhysicalResourceId"])

    def _unprotect(self, deployment: Deployment, allowed: bool) -> None:
        for name in deployment.clusters:
            cluster = self._rds.describe_db_clusters(DBClusterIdentifier=name)["DBClusters"][0]
            if not cluster.get("DeletionProtection"):
                continue
            if not allowed:
                raise RemovalError(
                    f"The database {name} is protected. Nothing was removed. Say --unprotect to "
                    "have it deleted; a snapshot of it stays."
                )
            self._rds.modify_db_cluster(
                DBClusterIdentifier=name, DeletionProtection=False, ApplyImmediately=True
            )

    def _snapshots(self, cluster: str) -> list[str]:
        found = self._rds.describe_db_cluster_snapshots(
            DBClusterIdentifier=cluster, SnapshotType="manual"
        )
        return [one["DBClusterSnapshotIdentifier"] for one in found["DBClusterSnapshots"]]


def main() -> int:
    """Remove the deployment that the command line names."""
    import boto3

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("stack", help="name of the stack")
    parser.add_argument("--region")
    parser.add_argument("--delete-data", action="store_true", help="buckets and snapshots as well")
    parser.add_argument("--unprotect", action="store_true", help="also a protected database")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    arguments = parser.parse_args()

    def make_client(name: str) -> Any:
        return boto3.client(name, region_name=arguments.region)

    removal = Removal(make_client, lambda line: print(line, flush=True))  # noqa: T201
    try:
        deployment = removal.find(arguments.stack)
        what = "and ALL ITS DATA" if arguments.delete_data else "(its data stays)"
        if not arguments.yes:
            answer = input(f"Remove {deployment.stack} {what}? Type the stack's name: ")
            if answer != arguments.stack:
                raise RemovalError("That is not its name. Nothing was removed.")
        removal.remove(deployment, delete_data=arguments.delete_data, unprotect=arguments.unprotect)
    except RemovalError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
