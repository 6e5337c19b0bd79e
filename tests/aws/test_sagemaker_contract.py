"""The training job as the cloud's engines run it: real jobs, with SageMaker's /opt/ml in a folder.

The document and the token lie in S3, the API is behind a door that takes signed requests only, and
the container is told ``MLOPS_JOB`` and nothing else.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import pyarrow.parquet as pq
import pytest
import uvicorn
from moto.server import ThreadedMotoServer
from pydantic import SecretStr
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlops.api import Api
from mlops.engines import JobSpec
from mlops.engines.cloud_jobs import write_job_files
from mlops.identity import issue_job_token
from mlops.jobs import RUN_TOKEN_ENV, JobDataset, JobDocument, RunOutcome, Split
from mlops.storage import keys
from mlops.storage.s3 import S3Store
from stac_api.app import create_app
from stac_api.settings import Settings
from tests.aws.account import ACCESS_KEY, REGION, SECRET_KEY
from tests.aws.http_api import authorizer_of, event_of
from tests.integration.conftest import dataset_item, run_item
from tests.unit.training.conftest import store_dataset, write_chip

RUNS = "alps-training-runs"
SECRET = "the secret of the tokens"
SHORT = {"epochs": 3, "filters": 8, "dense_units": 16}
LONG = {"epochs": 3000, "filters": 4, "dense_units": 8}
TWO_HOSTS = ["127.0.0.1", "localhost"]
JOB = ("-m", "training.job")
OFTEN = "checkpoints._SECONDS = 1.0; sys.exit(job.main(os.environ))"
KEEPS_OFTEN = ("-c", f"import os, sys; from training import checkpoints, job; {OFTEN}")
"""The job, which looks for checkpoints to keep every second instead of every ten."""


class Door:
    """API Gateway in front of an application: who calls stands in its event."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        target = scope["raw_path"].decode()
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode()
        authorizer = authorizer_of(scope["method"], target, headers, body)
        if authorizer is None:
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b'{"message":"Forbidden"}'})
            return
        event = event_of(scope["method"], target, headers, body, authorizer)
        messages: Iterator[Message] = iter([{"type": "http.request", "body": body}])

        async def again() -> Message:
            return next(messages, {"type": "http.disconnect"})

        await self._app({**scope, "aws.event": event}, again, send)


class Cloud:
    """A bucket, an API behind its door, and what is in both: a dataset and a run."""

    def __init__(self, url: str, open_api: Api, store: S3Store, dataset: JobDataset) -> None:
        self.url, self.open_api, self.store, self.dataset = url, open_api, store, dataset

    def job(self, hyperparameters: dict[str, Any]) -> str:
        """Submit the run, and write its job's files as an engine does; the document's URL."""
        self.open_api.create_item(
            RUNS, {**run_item(**{"mlops:hyperparameters": hyperparameters}), "id": "first"}
        )
        document = JobDocument(
            name="first-1-abc",
            workspace="alps",
            collection=RUNS,
            item="first",
            attempt=1,
            api_url=f"{self.url}/system",
            api_signed=True,
            storage_url=self.store.url,
            output_prefix=keys.run_prefix("alps", "first", 1),
            model="landcover",
            task="classification",
            framework="pytorch",
            recipe="pixel-timeseries",
            hyperparameters=hyperparameters,
            objective_metric="val_balanced_accuracy",
            objective_goal="maximize",
            datasets=[self.dataset],
            max_runtime=600,
        )
        token = issue_job_token(SECRET, RUNS, "first", 1, lifetime=900)
        spec = JobSpec(document.name, document, 600, secrets={RUN_TOKEN_ENV: token})
        return write_job_files(self.store, spec)

    def item(self) -> dict[str, Any]:
        return self.open_api.get_item(RUNS, "first").item

    def points(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.open_api.read_metrics(RUNS, "first")["points"]
        return found

    def log(self) -> str:
        return self.open_api.read_log(RUNS, "first")[0]

    def outcome(self) -> RunOutcome:
        key = keys.outcome(keys.run_prefix("alps", "first", 1))
        return RunOutcome.model_validate_json(self.store.get_bytes(key, 1 << 20))

    def output(self, name: str, folder: Path) -> Path:
        path = folder / name.replace("/", "-")
        self.store.get_file(self.outcome().outputs[name].key, path)
        return path


@pytest.fixture
def cloud(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    # The server keeps its buckets for as long as the process lives.
    bucket = f"mlops-{secrets.token_hex(4)}"
    boto3.client("s3").create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    store = S3Store(f"s3://{bucket}")
    splits: tuple[Split, ...] = ("train", "train", "validation", "test")
    chips = [
        write_chip(tmp_path / "chips", f"chip-{seed}", split, seed=seed)
        for seed, split in enumerate(splits)
    ]
    dataset = store_dataset(store, chips)
    settings = Settings(
        database_url=SecretStr(database_url), storage=store.url, token_secret=SecretStr(SECRET)
    )
    behind_door = settings.model_copy(update={"system_path": "/system"})
    try:
        with (
            _served(create_app(settings)) as open_url,
            _served(Door(create_app(behind_door))) as url,
            Api(open_url, patience=0) as open_api,
        ):
            open_api.request("POST", "/workspaces", json={"id": "alps"})
            open_api.create_item("alps-training-data", dataset_item())
            yield Cloud(url, open_api, store, dataset)
    finally:
        server.stop()


@contextmanager
def _served(app: ASGIApp) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="warning")
        server = uvicorn.Server(config)
        thread = Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        eventually(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(30)


class Container:
    """A container in which the job runs, as ``docker run image train`` starts it."""

    def __init__(
        self, folder: Path, job: str, runs: tuple[str, str] = JOB, **environment: str
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._output = (folder / "stdout.txt").open("wb")
        inherited = {n: v for n, v in os.environ.items() if not n.startswith(("MLOPS_", "SM_"))}
        self.process = subprocess.Popen(
            [sys.executable, *runs, "train"],
            env={**inherited, "MLOPS_JOB": job, **environment},
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def output(self) -> str:
        return (self.folder / "stdout.txt").read_text()

    def wait(self) -> int:
        code = self.process.wait(timeout=150)
        self._output.close()
        return code

    def kill(self) -> None:
        """All of its processes at once, as when a machine is taken away."""
        if self.process.poll() is None:
            for pid in [*_descendants(self.process.pid), self.process.pid]:
                os.kill(pid, signal.SIGKILL)
            self.process.wait()
        self._output.close()


class SageMaker:
    """Containers with SageMaker's folders."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.containers: list[Container] = []

    def start(
        self,
        name: str,
        job: str,
        hosts: list[str] | None = None,
        current: str = "algo-1",
        **environment: str,
    ) -> Container:
        base = self._folder / name
        config = base / "input" / "config"
        config.mkdir(parents=True, exist_ok=True)
        hosts = hosts or [current]
        for file, content in {
            "resourceconfig": {
                "current_host": current,
                "current_instance_type": "ml.m5.large",
                "current_group_name": "homogeneousCluster",
                "hosts": hosts,
                "instance_groups": [
                    {
                        "instance_group_name": "homogeneousCluster",
                        "instance_type": "ml.m5.large",
                        "hosts": hosts,
                    }
                ],
                "network_interface_name": "lo",
            },
            "hyperparameters": {},
            "inputdataconfig": {},
            "checkpointconfig": {"S3Uri": "s3://mlops/x", "LocalPath": "/opt/ml/checkpoints"},
        }.items():
            (config / f"{file}.json").write_text(json.dumps(content))
        container = Container(base, job, SAGEMAKER_BASE_DIR=str(base), **environment)
        self.containers.append(container)
        return container


@pytest.fixture
def sagemaker(tmp_path: Path) -> Iterator[SageMaker]:
    service = SageMaker(tmp_path / "opt-ml")
    yield service
    for container in service.containers:
        container.kill()


def test_a_job_under_sagemaker(cloud: Cloud, sagemaker: SageMaker, tmp_path: Path) -> None:
    place = cloud.job(SHORT)
    assert place == f"{cloud.store.url}/_jobs/first-1-abc/job.json"
    container = sagemaker.start("one", place)

    assert container.wait() == 0, container.output
    properties = cloud.item()["properties"]
    assert properties["mlops:status"] == "running"
    assert properties["mlops:exit"]["code"] == 0
    assert properties["mlops:progress"] == 1.0
    base = container.folder
    assert (base / "model" / "model.onnx").is_file()
    assert (base / "output" / "data" / "evaluation.json").is_file()
    assert (base / "checkpoints" / "checkpoint.pt").is_file()
    assert (base / "input" / "data" / "train").is_dir()
    assert not (base / "output" / "failure").exists()
    outputs = cloud.outcome().outputs
    assert {"model", "model_description", "native", "log", "metrics"} <= set(outputs)
    assert (
        cloud.output("model", tmp_path).read_bytes() == (base / "model" / "model.onnx").read_bytes()
    )
    assert cloud.item()["assets"]["model"]["href"] == f"{cloud.store.url}/{outputs['model'].key}"
    # What SageMaker collects holds the job's log, and its metrics where a pattern finds them.
    assert "epoch   3/3" in container.output
    assert "[mlops] step 3: " in container.output
    assert " val_balanced_accuracy=" in container.output
    assert "epoch   3/3" in cloud.log()
    # Checkpoints are SageMaker's to copy here.
    assert list(cloud.store.keys("_checkpoints/")) == []


def test_the_token_is_nowhere_but_in_the_store(cloud: Cloud, sagemaker: SageMaker) -> None:
    place = cloud.job(LONG)
    token = cloud.store.get_bytes(keys.job_token("first-1-abc"), 10_000)
    container = sagemaker.start("one", place)
    eventually(cloud.points)

    pids = [container.process.pid, *_descendants(container.process.pid)]
    assert len(pids) == 2
    for pid in pids:
        assert token not in Path(f"/proc/{pid}/environ").read_bytes()
        assert token not in Path(f"/proc/{pid}/cmdline").read_bytes()
    for path in container.folder.rglob("*"):
        assert not path.is_file() or token not in path.read_bytes(), path


def test_a_job_without_its_token_may_be_tried_again(cloud: Cloud, sagemaker: SageMaker) -> None:
    place = cloud.job(SHORT)
    cloud.store.delete(keys.job_token("first-1-abc"))
    container = sagemaker.start("one", place)

    assert container.wait() == 3
    assert "sent no token" in (container.folder / "output" / "failure").read_text()


def test_sagemaker_is_told_why_a_job_failed(cloud: Cloud, sagemaker: SageMaker) -> None:
    container = sagemaker.start("one", cloud.job({**SHORT, "learning_rate": 1e30}))

    assert container.wait() == 1
    failure = (container.folder / "output" / "failure").read_text()
    assert "DivergedError" in failure
    assert cloud.item()["properties"]["mlops:exit"]["reason"] == failure


def test_a_document_that_is_not_there_is_said(cloud: Cloud, sagemaker: SageMaker) -> None:
    cloud.job(SHORT)
    container = sagemaker.start("one", f"{cloud.store.url}/_jobs/other/job.json")

    assert container.wait() == 2
    assert "_jobs/other/job.json" in (container.folder / "output" / "failure").read_text()


def test_a_spot_interruption_costs_an_epoch_at_most(
    cloud: Cloud, sagemaker: SageMaker, tmp_path: Path
) -> None:
    """SIGTERM, a new machine, the checkpoint folder copied there: one history, one log."""
    options = {**LONG, "epochs": 150}
    place = cloud.job(options)
    first = sagemaker.start("one", place)
    eventually(lambda: max((point["step"] for point in cloud.points()), default=0) >= 3)
    first.process.send_signal(signal.SIGTERM)
    assert first.wait() == 3, first.output
    assert "asked to stop" in cloud.item()["properties"]["mlops:exit"]["reason"]
    reached = max(point["step"] for point in cloud.points())
    log_before = cloud.log()
    assert reached < 150

    _copy(first.folder / "checkpoints", tmp_path / "opt-ml" / "two" / "checkpoints")
    second = sagemaker.start("two", place)
    assert second.wait() == 0, second.output
    assert "going on after epoch" in second.output
    assert cloud.item()["properties"]["mlops:exit"]["code"] == 0
    trained = [point["step"] for point in cloud.points() if point["name"] == "val_loss"]
    assert sorted(set(trained)) == list(range(1, 151))
    rows = pq.read_table(cloud.output("metrics", tmp_path)).to_pylist()
    assert {row["step"] for row in rows if row["name"] == "train_loss"} == set(range(1, 151))
    log = cloud.log()
    assert log.startswith(log_before)
    assert "epoch 150/150" in log
    kept = cloud.output("log", tmp_path).read_text()
    assert "epoch   1/150" in kept
    assert "epoch 150/150" in kept


def test_two_hosts_train_one_model(cloud: Cloud, sagemaker: SageMaker) -> None:
    place = cloud.job({**SHORT, "epochs": 5, "learning_rate": 0.01})
    port = str(_free_port())
    hosts = [sagemaker.start(name, place, TWO_HOSTS, name, MASTER_PORT=port) for name in TWO_HOSTS]

    codes = [host.wait() for host in hosts]
    assert codes == [0, 0], "\n".join(host.output for host in hosts)
    first, second = hosts
    assert "in each of 2 processes, 1 a host" in first.output
    assert "on host localhost of 2" in second.output
    # Only the first host reports, exports and uploads.
    assert (first.folder / "model" / "model.onnx").is_file()
    assert not any((second.folder / "model").iterdir())
    assert not any((second.folder / "checkpoints").iterdir())
    losses = [point["step"] for point in cloud.points() if point["name"] == "train_loss"]
    assert losses[:5] == [1, 2, 3, 4, 5]
    assert "localhost" not in cloud.log()
    assert cloud.outcome().metrics["test_balanced_accuracy"] > 0.9


def test_a_host_that_is_lost_ends_the_job(cloud: Cloud, sagemaker: SageMaker) -> None:
    place = cloud.job(LONG)
    port = str(_free_port())
    first, second = (
        sagemaker.start(name, place, TWO_HOSTS, name, MASTER_PORT=port) for name in TWO_HOSTS
    )
    eventually(cloud.points)
    second.kill()

    # Not the user's doing: it may be tried again.
    assert first.wait() == 3
    reason = cloud.item()["properties"]["mlops:exit"]["reason"]
    assert "another host" in reason, reason


def test_on_batch_the_agent_keeps_the_checkpoints(cloud: Cloud, tmp_path: Path) -> None:
    """A machine that vanishes without a word; Batch starts the job again on another."""
    # The agent looks twice at a file: the training must outlast that.
    epochs = 400
    place = cloud.job({**LONG, "epochs": epochs})
    batch = {"AWS_BATCH_JOB_ID": "4a1f", "AWS_BATCH_JQ_NAME": "gpu", "TMPDIR": str(tmp_path)}
    first = Container(tmp_path / "one", place, KEEPS_OFTEN, **batch, AWS_BATCH_JOB_ATTEMPT="1")
    kept = keys.checkpoints("alps", "first")
    try:
        eventually(lambda: cloud.store.size(f"{kept}checkpoint.pt"))
    finally:
        first.kill()
    assert f"epoch {epochs}/{epochs}" not in first.output
    assert cloud.store.size(f"{kept}.mlops/metrics.jsonl")

    second = Container(tmp_path / "two", place, KEEPS_OFTEN, **batch, AWS_BATCH_JOB_ATTEMPT="2")
    try:
        assert second.wait() == 0, second.output
    finally:
        second.kill()
    assert "going on after epoch" in second.output
    rows = pq.read_table(cloud.output("metrics", tmp_path)).to_pylist()
    assert {row["step"] for row in rows if row["name"] == "train_loss"} == set(range(1, epochs + 1))
    # What is done has no use for them.
    assert list(cloud.store.keys(kept)) == []


def test_two_nodes_of_a_batch_job(cloud: Cloud, tmp_path: Path) -> None:
    place = cloud.job({**SHORT, "learning_rate": 0.01})
    common = {
        "AWS_BATCH_JOB_ID": "4a1f#0",
        "AWS_BATCH_JOB_NUM_NODES": "2",
        "AWS_BATCH_JOB_MAIN_NODE_INDEX": "0",
        "MASTER_PORT": str(_free_port()),
        "TMPDIR": str(tmp_path),
    }
    address = {"AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS": "127.0.0.1"}
    nodes = [
        Container(tmp_path / "main", place, **common, AWS_BATCH_JOB_NODE_INDEX="0"),
        Container(tmp_path / "child", place, **common, **address, AWS_BATCH_JOB_NODE_INDEX="1"),
    ]
    try:
        codes = [node.wait() for node in nodes]
    finally:
        for node in nodes:
            node.kill()
    assert codes == [0, 0], "\n".join(node.output for node in nodes)
    assert "in each of 2 processes" in nodes[0].output
    assert "on host algo-2 of 2" in nodes[1].output
    assert cloud.outcome().exit_code == 0


def eventually(check: Callable[[], Any], seconds: float = 90.0) -> Any:
    """The first true answer of ``check``."""
    deadline = time.monotonic() + seconds
    while not (answer := check()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return answer


def _descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [found for child in children for found in (int(child), *_descendants(int(child)))]


def _copy(source: Path, target: Path) -> None:
    """As SageMaker brings a checkpoint folder to another machine: every file, by way of S3."""
    for path in source.rglob("*"):
        if path.is_file():
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
