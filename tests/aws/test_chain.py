"""A run through the deployed stack: outbox, bus, rule, queue, event source mapping, function,
engine, the engine's event, function, model Item. The functions are the built packages under AWS's
own runtime client; the stack is `template.yaml` as `deployment` lists."""

from typing import Any

import pytest

from mlops.api import Api, Item
from tests.aws.cloud import Cloud
from tests.aws.fake_engines import scripts
from tests.aws.outputs import document_of, hand_over
from tests.integration.conftest import dataset_item, run_item

RUNS, MODELS = "alps-training-runs", "alps-models"


@pytest.fixture(scope="module")
def user(cloud: Cloud) -> Api:
    """A person, who has made a workspace with a dataset."""
    user = cloud.user()
    user.request("POST", "/workspaces", json={"id": "alps"})
    user.create_item("alps-training-data", dataset_item())
    return user


def submit(user: Api, **properties: Any) -> Item:
    """Ask for a run on SageMaker."""
    compute = {"engine": "sagemaker", **properties.pop("compute", {})}
    item = run_item(**{"mlops:compute": compute, **properties})
    run, _ = user.create_item(RUNS, item)
    return run


def jobs_of(cloud: Cloud, run: Item) -> list[Any]:
    """The training jobs that SageMaker got for a run."""
    return [
        job
        for job in cloud.fakes.sagemaker.jobs.values()
        if {"Key": "mlops:run", "Value": run["id"]} in job.request["Tags"]
    ]


@pytest.fixture(autouse=True)
def good_jobs(cloud: Cloud) -> None:
    """Jobs succeed, unless a test says otherwise."""

    def script(request: dict[str, Any]) -> scripts.Steps:
        hand_over(cloud.store, document_of(request, cloud.store))
        return scripts.sagemaker_success()

    cloud.fakes.sagemaker.script = script


def test_from_a_posted_run_to_a_model(cloud: Cloud, user: Api) -> None:
    run = submit(user)
    properties = cloud.wait_for_status(run, "successful", "failed")
    assert properties["mlops:status"] == "successful", properties
    assert properties["mlops:requested_by"] == "ada"
    assert len(jobs_of(cloud, run)) == 1
    models = list(user.search(collections=[MODELS]))
    assert [model["properties"]["mlops:onnx"]["checked"] for model in models] == [True]
