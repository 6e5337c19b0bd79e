"""What the tests of the cloud engines share: a store on S3's protocol, jobs, clients."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

from mlops.engines import JobSpec, job_name
from mlops.engines.cloud_settings import BatchQueues, BatchSettings, SageMakerSettings
from mlops.jobs import RUN_TOKEN_ENV, JobDocument
from mlops.storage.s3 import S3Store
from tests.aws.fake_engines import FakeEngines
from tests.aws.fake_engines.service import REGION

TOKEN = "the-token-of-the-run"
ROLE = "arn:aws:iam::123456789012:role/mlops-jobs"
IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/train-pytorch@sha256:" + "a" * 64
KEY = f"arn:aws:kms:{REGION}:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def client(service: str, url: str, **config: Any) -> Any:
    """A boto3 client of a service at ``url``, with credentials of nobody."""
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(connect_timeout=2, read_timeout=10, **config),
    )


def new_bucket(s3: Any) -> str:
    """A bucket of its own name: all servers of moto in one process share what they hold."""
    name = f"mlops-{secrets.token_hex(6)}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return name


@contextmanager
def s3_store() -> Iterator[S3Store]:
    """An empty object store on a server that speaks S3."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        s3 = client("s3", f"http://{host}:{port}")
        yield S3Store(f"s3://{new_bucket(s3)}", s3)
    finally:
        server.stop()


def job(run: str = "crop-map-1", attempt: int = 1, **changes: Any) -> JobSpec:
    """A job as `launch_run` makes it."""
    name = job_name("alps", "alps-training-runs", run, attempt)
    document = JobDocument(
        name=name,
        workspace="alps",
        collection="alps-training-runs",
        item=run,
        attempt=attempt,
        api_url="https://api.example.com/system",
        storage_url="s3://mlops",
        output_prefix=f"alps/training-runs/{run}/attempt-{attempt}/",
        model="crop-map",
        task="classification",
        framework="pytorch",
        recipe="pixel-timeseries",
        hyperparameters={"epochs": 3},
        objective_metric="val/f1 (macro)",
        objective_goal="maximize",
        datasets=[],
        max_runtime=3600,
    )
    spec = JobSpec(
        name=name,
        document=document,
        max_runtime=3600,
        secrets={RUN_TOKEN_ENV: TOKEN},
        tags={"mlops:workspace": "alps", "mlops:run": run, "mlops:requester": "auth0|anna"},
    )
    return replace(spec, **changes)


def sagemaker_settings(**changes: Any) -> SageMakerSettings:
    """Settings of a deployment's SageMaker engine."""
    given: dict[str, Any] = {"role": ROLE, "images": {"pytorch": IMAGE}}
    return SageMakerSettings.model_validate({**given, **changes})


def batch_settings(**changes: Any) -> BatchSettings:
    """Settings of a deployment's Batch engine."""
    given: dict[str, Any] = {
        "queues": BatchQueues(gpu="gpu", gpu_spot="gpu-spot", cpu="cpu"),
        "job_definitions": {"pytorch": "train-pytorch"},
        "multi_node_job_definitions": {"pytorch": "train-pytorch-nodes"},
    }
    return BatchSettings.model_validate({**given, **changes})


def now_of(fakes: FakeEngines) -> datetime:
    """The time of the fakes."""
    return datetime.fromtimestamp(fakes.clock.now(), UTC)
