"""`mlops engine check`: an account that is ready, and each way in which it is not."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner

from cli.exit_codes import ExitCode
from cli.main import app
from mlops.engines.cloud_settings import (
    BatchSettings,
    EngineSettingsError,
    SageMakerSettings,
)
from mlops.engines.readiness import Account, Check, check_account
from mlops.engines.readiness.settings import DeployedSettings
from mlops.storage.s3 import S3Store
from tests.aws.engine_setup import batch_settings, client, new_bucket, sagemaker_settings
from tests.aws.fake_engines import FakeEngines
from tests.aws.fake_engines.account import FakeAccount, fake_account
from tests.aws.fake_engines.service import REGION

REGISTRY = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
ON_DEMAND = "Running On-Demand G and VT instances"
SPOT = "All G and VT Spot Instance Requests"


class World:
    """An account that is ready, on three servers."""

    def __init__(self, moto: str, fakes: FakeEngines, account: FakeAccount) -> None:
        self._urls = {"batch": fakes.url, "iam": account.url, "service-quotas": account.url}
        self._moto = moto
        self.fakes, self.fake = fakes, account
        account.roles = {
            "mlops-jobs": ["sagemaker.amazonaws.com"],
            "mlops-batch-jobs": ["ecs-tasks.amazonaws.com"],
        }
        account.quotas = {
            "sagemaker": {
                "ml.m5.large for endpoint usage": 4,
                "ml.g5.xlarge for spot training job usage": 2,
                "ml.g5.xlarge for training job usage": 1,
            },
            "ec2": {"Running On-Demand P instances": 0, ON_DEMAND: 64, SPOT: 8},
        }
        self.store = S3Store(f"s3://{new_bucket(self.client('s3'))}", self.client("s3"))
        self.image = f"{REGISTRY}/train:1"

    def client(self, service: str) -> Any:
        return client(service, self._urls.get(service, self._moto))

    def look(
        self,
        sagemaker: SageMakerSettings | None,
        batch: BatchSettings | None,
        *types: str,
    ) -> dict[str, Check]:
        checks = check_account(Account(self.client), self.store, sagemaker, batch, types)
        return {check.name: check for check in checks}


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    ecr = client("ecr", url)
    ecr.create_repository(repositoryName="train")
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"digest": f"sha256:{'b' * 64}", "size": 1},
        "layers": [],
    }
    ecr.put_image(repositoryName="train", imageManifest=json.dumps(manifest), imageTag="1")
    yield url
    server.stop()


@pytest.fixture
def world(moto: str) -> Iterator[World]:
    with FakeEngines() as fakes, fake_account() as account:
        yield World(moto, fakes, account)


def test_an_account_that_is_ready(world: World) -> None:
    ec2 = world.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="jobs", Description="jobs", VpcId=vpc)["GroupId"]
    key = world.client("kms").create_key()["KeyMetadata"]["Arn"]
    settings = sagemaker_settings(
        images={"pytorch": world.image}, subnets=[subnet], security_groups=[group], kms_key=key
    )
    found = world.look(settings, batch_settings())
    assert {name: check.detail for name, check in found.items() if not check.ok} == {}
    assert "24.4 GiB" not in found["ml.g5.xlarge for training job usage"].detail
    assert "1 x NVIDIA A10G" in found["ml.g5.xlarge for training job usage"].detail
    assert {"account", "bucket", "SageMaker network", "KMS key", "Batch queue gpu"} <= set(found)
    assert list(world.store.keys("")) == []


def test_what_is_missing_is_named(world: World) -> None:
    world.fake.roles = {"mlops-jobs": ["lambda.amazonaws.com"]}
    world.fake.denied = {"s3:PutObject"}
    world.fake.quotas["sagemaker"]["ml.g5.xlarge for training job usage"] = 0
    world.fake.quotas["ec2"][ON_DEMAND] = 2
    world.fakes.batch.environment = {
        "state": "ENABLED",
        "status": "INVALID",
        "statusReason": "CLIENT_ERROR - no such role",
    }
    world.fakes.batch.queues = {"gpu", "gpu-spot"}
    sagemaker = sagemaker_settings(images={"pytorch": f"{REGISTRY}/train:2"}, kms_key="gone")
    found = world.look(sagemaker, batch_settings())
    for name, words in {
        "SageMaker role": "may not take on",
        "SageMaker role: bucket": "s3:PutObject",
        "image pytorch (SageMaker)": "ImageNotFound",
        "KMS key": "NotFound",
        "ml.g5.xlarge for training job usage": "0 machines",
        "Batch queue gpu": "INVALID: CLIENT_ERROR",
        "Batch queue cpu": "no queue cpu",
        "Batch job definition pytorch: role": "NoSuchEntity",
        "EC2 vCPUs for g5.xlarge": "2 vCPUs",
    }.items():
        assert found[name].ok is False, name
        assert words in found[name].detail, name
        assert found[name].advice, name
    assert found["EC2 spot vCPUs for g5.xlarge"].ok is True


def test_what_may_not_be_looked_at_is_not_a_failure(world: World) -> None:
    world.fake.forbidden = {"GetRole", "SimulatePrincipalPolicy"}
    found = world.look(sagemaker_settings(images={"pytorch": "docker.io/library/python:3"}), None)
    for name in ("SageMaker role", "SageMaker role: bucket", "image pytorch (SageMaker)"):
        assert found[name].ok is None


def test_the_types_that_are_asked_for(world: World) -> None:
    settings = sagemaker_settings(images={"pytorch": world.image})
    found = world.look(settings, batch_settings(), "p4d.24xlarge", "g5.huge")
    assert found["ml.p4d.24xlarge for training job usage"].ok is None
    assert found["EC2 vCPUs for p4d.24xlarge"].ok is False
    assert found["g5.huge on SageMaker"].ok is False


def test_an_account_without_engines(world: World) -> None:
    assert world.look(None, None)["engines"].ok is False


def test_settings_of_a_function() -> None:
    variables = {
        "MLOPS_STORAGE": "s3://mlops",
        "MLOPS_SAGEMAKER": '{"role": "r", "images": {"pytorch": "i", "jax": ""}, "kms_key": ""}',
        "MLOPS_BATCH": "",
    }
    read = DeployedSettings.from_variables(variables)
    assert read.sagemaker == SageMakerSettings(role="r", images={"pytorch": "i"})
    assert read.batch is None
    with pytest.raises(EngineSettingsError, match="queues"):
        DeployedSettings.from_variables({**variables, "MLOPS_BATCH": "{}"})


def test_the_command(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for service in ("STS", "S3", "ECR"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", world.client("sts").meta.endpoint_url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_IAM", world.fake.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_QUOTAS", world.fake.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("MLOPS_STORAGE", world.store.url)
    settings = sagemaker_settings(images={"pytorch": world.image})
    monkeypatch.setenv("MLOPS_SAGEMAKER", settings.model_dump_json(exclude_none=True))
    monkeypatch.setenv("MLOPS_BATCH", "")
    command = ["engine", "check", "--region", REGION]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == ExitCode.OK, done.output
    assert "ok   bucket" in done.output
    world.fake.denied = {"s3:GetObject"}
    failed = CliRunner().invoke(app, [*command, "--json"])
    assert failed.exit_code == ExitCode.FAILED
    answer = json.loads(failed.stdout)
    assert answer["ok"] is False
    monkeypatch.delenv("MLOPS_STORAGE")
    assert CliRunner().invoke(app, command).exit_code == ExitCode.USAGE
