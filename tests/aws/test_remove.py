"""A deployment is removed, on moto's server: data stays unless it is told otherwise."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from infra.aws.remove import Deployment, Removal, RemovalError
from tests.aws.cloudformation import Template

STACK = "earth"
REGION = "eu-central-1"


@pytest.fixture
def clients() -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # moto keeps what it has in its modules.
    httpx.post(f"http://{host}:{port}/moto-api/reset").raise_for_status()

    def make(name: str) -> Any:
        return boto3.client(
            name,
            region_name=REGION,
            endpoint_url=f"http://{host}:{port}",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    yield make
    server.stop()


def template() -> Template:
    """Buckets as the template has them. The database is not in it: moto makes none in stacks."""
    bucket = {"Type": "AWS::S3::Bucket", "Properties": {}}
    kept = {**bucket, "DeletionPolicy": "Retain"}
    return {"Resources": {"StorageBucket": kept, "AccessLogBucket": kept, "Bucket": bucket}}


def deploy(make: Any) -> dict[str, str]:
    stacks, s3 = make("cloudformation"), make("s3")
    stacks.create_stack(StackName=STACK, TemplateBody=json.dumps(template()))
    resources = stacks.describe_stack_resources(StackName=STACK)["StackResources"]
    found = {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in resources}
    for name in found.values():
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        for text in (b"first", b"second"):
            s3.put_object(Bucket=name, Key="index.html", Body=text)
        s3.put_object(Bucket=name, Key="gone", Body=b"")
        s3.delete_object(Bucket=name, Key="gone")
        s3.create_multipart_upload(Bucket=name, Key="never-ended")
    return found


def with_database(make: Any, deployment: Deployment, protected: bool) -> Deployment:
    make("rds").create_db_cluster(
        Engine="aurora-postgresql",
        DBClusterIdentifier=STACK,
        MasterUsername="mlops",
        MasterUserPassword="not-a-secret",
        DeletionProtection=protected,
    )
    return replace(deployment, clusters=[STACK])


def buckets(make: Any) -> set[str]:
    return {one["Name"] for one in make("s3").list_buckets()["Buckets"]}


def test_what_a_stack_has(clients: Any) -> None:
    found = deploy(clients)
    deployment = Removal(clients, print).find(STACK)
    assert set(deployment.data_buckets) == {found["StorageBucket"], found["AccessLogBucket"]}
    assert deployment.other_buckets == [found["Bucket"]]


def test_data_stays(clients: Any) -> None:
    found = deploy(clients)
    said: list[str] = []
    removal = Removal(clients, said.append)
    removal.remove(removal.find(STACK), delete_data=False, unprotect=False)
    assert buckets(clients) == {found["StorageBucket"], found["AccessLogBucket"]}
    kept = clients("s3").get_object(Bucket=found["StorageBucket"], Key="index.html")
    assert kept["Body"].read() == b"second"
    assert f"kept: bucket {found['StorageBucket']}" in said
    with pytest.raises(RemovalError, match="There is no stack"):
        removal.find(STACK)


def test_data_goes_when_it_is_told(clients: Any) -> None:
    deploy(clients)
    removal = Removal(clients, print)
    deployment = with_database(clients, removal.find(STACK), protected=False)
    # What deleting the stack leaves of the database.
    rds = clients("rds")
    rds.create_db_cluster_snapshot(
        DBClusterIdentifier=STACK, DBClusterSnapshotIdentifier="earth-last"
    )
    removal.remove(deployment, delete_data=True, unprotect=False)
    assert buckets(clients) == set()
    manual = rds.describe_db_cluster_snapshots(SnapshotType="manual")
    assert manual["DBClusterSnapshots"] == []


def test_a_protected_database_is_not_touched(clients: Any) -> None:
    found = deploy(clients)
    removal = Removal(clients, print)
    deployment = with_database(clients, removal.find(STACK), protected=True)
    with pytest.raises(RemovalError, match="--unprotect"):
        removal.remove(deployment, delete_data=True, unprotect=False)
    assert clients("s3").list_objects_v2(Bucket=found["Bucket"])["KeyCount"] == 1
    assert removal.find(STACK).stack == deployment.stack
    removal.remove(deployment, delete_data=False, unprotect=True)
    (cluster,) = clients("rds").describe_db_clusters()["DBClusters"]
    assert cluster["DeletionProtection"] is False
