"""The training job against the real API: what it reports, and what it does when things go wrong."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
import uvicorn

from mlops.api import Api
from mlops.identity import issue_job_token
from mlops.jobs import JobDocument, RunOutcome
from mlops.storage import keys
from mlops.storage.folder import FolderStore
from stac_api.app import create_app
from stac_api.settings import Settings
from tests.conftest import ApiServer
from tests.integration.conftest import run_item
from tests.unit.training.conftest import Chip, store_dataset, write_chip

RUNS = "alps-training-runs"
LONG = {"epochs": 10_000, "filters": 4, "dense_units": 8}
SHORT = {"epochs": 2, "filters": 8, "dense_units": 16}


def eventually(check: Callable[[], Any], seconds: float = 90.0) -> Any:
    """The first true answer of ``check``."""
    deadline = time.monotonic() + seconds
    while not (answer := check()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return answer


class Job:
    """A training job's process and the run that it belongs to."""

    def __init__(self, server: ApiServer, chips: list[Chip], folder: Path) -> None:
        self.server, self.folder = server, folder
        self.user = server.user()
        self.store = server.store
        assert isinstance(self.store, FolderStore)
        self.store.folder.mkdir(exist_ok=True)
        self.dataset = store_dataset(self.store, chips)
        self.prefix = keys.run_prefix("alps", "first", 1)
        self.process: subprocess.Popen[bytes] | None = None

    def submit(self, hyperparameters: dict[str, Any]) -> None:
        run = run_item(**{"mlops:hyperparameters": hyperparameters})
        self.user.create_item(RUNS, {**run, "id": "first"})

    def start(self, hyperparameters: dict[str, Any], **changes: Any) -> None:
        fields: dict[str, Any] = {
            "name": "first-1",
            "workspace": "alps",
            "collection": RUNS,
            "item": "first",
            "attempt": 1,
            "api_url": self.server.url,
            "storage_url": self.store.url,
            "output_prefix": self.prefix,
            "model": "landcover",
            "task": "classification",
            "framework": "pytorch",
            "recipe": "pixel-timeseries",
            "hyperparameters": hyperparameters,
            "objective_metric": "val_balanced_accuracy",
            "objective_goal": "maximize",
            "datasets": [self.dataset],
            "max_runtime": 600,
        }
        place = self.folder / "job.json"
        place.write_text(JobDocument(**{**fields, **changes}).model_dump_json())
        token = issue_job_token(self.server.secret, RUNS, "first", 1, lifetime=600)
        environment = {**os.environ, "MLOPS_JOB": str(place), "MLOPS_RUN_TOKEN": token}
        with (self.folder / "agent.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "training.job"],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(timeout=120)

    def item(self) -> dict[str, Any]:
        return self.user.get_item(RUNS, "first").item

    def points(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.user.read_metrics(RUNS, "first")["points"]
        return found

    def asset(self, key: str) -> bytes:
        asset = self.item()["assets"][key]
        content = httpx.get(asset["href"], follow_redirects=True).raise_for_status().content
        assert asset["file:size"] == len(content)
        assert asset["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()
        return content

    def outcome(self) -> RunOutcome:
        content = self.store.get_bytes(keys.outcome(self.prefix), 1 << 20)
        return RunOutcome.model_validate_json(content)

    def group_is_gone(self) -> bool:
        assert self.process is not None
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False


@pytest.fixture
def job(
    api_server: ApiServer,
    workspace: Api,  # noqa: ARG001 - makes the workspace and its dataset
    tmp_path: Path,
) -> Iterator[Job]:
    folder = tmp_path / "job"
    folder.mkdir()
    chips = [
        write_chip(tmp_path / "chips", f"chip-{seed}", split, seed=seed)
        for seed, split in enumerate(("train", "train", "validation", "test"))
    ]
    job = Job(api_server, chips, folder)
    yield job
    if job.process is not None and job.process.poll() is None:
        os.killpg(job.process.pid, signal.SIGKILL)
        job.process.wait()


def test_a_job_reports_all_that_it_did(job: Job) -> None:
    job.submit(SHORT)
    job.start(SHORT)

    assert job.wait() == 0, (job.folder / "agent.log").read_text()
    properties = job.item()["properties"]
    assert properties["mlops:status"] == "running"
    assert properties["mlops:progress"] == 1.0
    assert properties["mlops:exit"]["code"] == 0
    assert properties["mlops:environment"]["versions"]["torch"]
    assert (
        properties["mlops:objective_value"] == properties["mlops:metrics"]["val_balanced_accuracy"]
    )
    outcome = job.outcome()
    assert {"model", "model_description", "native", "log", "metrics"} <= set(outcome.outputs)
    assert set(job.item()["assets"]) == set(outcome.outputs)
    for key in outcome.outputs:
        job.asset(key)
    assert outcome.metrics == properties["mlops:metrics"]
    (job.folder / "history.parquet").write_bytes(job.asset("metrics"))
    history = pq.read_table(job.folder / "history.parquet").to_pylist()
    shown = [(point["name"], point["step"], point["value"]) for point in job.points()]
    assert shown == [(row["name"], row["step"], row["value"]) for row in history]
    live, _ = job.user.read_log(RUNS, "first")
    assert live.encode() == job.asset("log")
    # Nothing is left to go on from.
    assert list(job.store.keys("_checkpoints/")) == []
    assert "epoch   2/2" in live


def test_a_script_that_raises_says_why(job: Job) -> None:
    job.submit({**SHORT, "learning_rate": 1e30})
    job.start({**SHORT, "learning_rate": 1e30})

    assert job.wait() == 1
    ended = job.item()["properties"]["mlops:exit"]
    assert ended["code"] == 1
    assert "DivergedError" in ended["reason"]
    assert "learning_rate" in ended["reason"]
    assert job.outcome().exit_code == 1
    assert b"Traceback" in job.asset("log")


def test_an_altered_file_is_refused_by_name(job: Job) -> None:
    job.submit(SHORT)
    blob = next(
        path
        for path in job.store.folder.rglob("*")  # type: ignore[attr-defined]
        if path.is_file() and path.read_bytes()[:4] == b"II*\x00"
    )
    blob.write_bytes(blob.read_bytes() + b"!")
    job.start(SHORT)

    assert job.wait() == 2
    ended = job.item()["properties"]["mlops:exit"]
    assert ended["code"] == 2
    assert "was altered" in ended["reason"]
    assert "of sample chip-" in ended["reason"]


def test_a_bad_job_document_is_code_2(job: Job) -> None:
    job.submit(SHORT)
    job.start(SHORT, recipe="no-such-recipe")

    assert job.wait() == 2
    assert "no recipe 'no-such-recipe'" in job.item()["properties"]["mlops:exit"]["reason"]


def test_sigterm_hands_over_what_there_is(job: Job) -> None:
    job.submit(LONG)
    job.start(LONG)
    eventually(job.points)
    assert job.process is not None
    job.process.send_signal(signal.SIGTERM)

    assert job.wait() == 3
    eventually(job.group_is_gone)
    assert "asked to stop" in job.item()["properties"]["mlops:exit"]["reason"]
    assert {"log", "metrics", "checkpoint"} <= set(job.item()["assets"])
    last = max(point["step"] for point in job.points())
    assert f"epoch {last:>3}/10000".encode() in job.asset("log")
    assert job.store.size(keys.checkpoints("alps", "first") + "checkpoint.pt")


def test_the_time_limit_ends_the_job(job: Job) -> None:
    job.submit(LONG)
    job.start(LONG, max_runtime=10)

    assert job.wait() == 1
    assert "max_runtime of 10 s" in job.item()["properties"]["mlops:exit"]["reason"]


def test_a_killed_script_is_told_from_one_that_failed(job: Job) -> None:
    job.submit(LONG)
    job.start(LONG)
    eventually(job.points)
    assert job.process is not None
    children = Path(f"/proc/{job.process.pid}/task/{job.process.pid}/children").read_text()
    os.kill(int(children.split()[0]), signal.SIGKILL)

    assert job.wait() == 1
    reason = job.item()["properties"]["mlops:exit"]["reason"]
    assert "killed by SIGKILL" in reason
    assert "memory" in reason


def test_a_dismissed_run_ends_its_job(job: Job) -> None:
    job.submit(LONG)
    job.start(LONG)
    eventually(job.points)
    job.user.merge_patch(RUNS, "first", {"properties": {"mlops:status": "dismissed"}})

    assert job.wait() == 3
    eventually(job.group_is_gone)
    assert job.item()["properties"]["mlops:status"] == "dismissed"
    assert "log" in job.item()["assets"]
    assert job.store.size(keys.outcome(job.prefix)) is None


def test_nothing_is_lost_while_the_api_is_away(job: Job) -> None:
    job.submit(SHORT)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    job.start(SHORT, api_url=f"http://127.0.0.1:{port}")
    log = job.folder / "work" / "output" / "log.txt"
    eventually(lambda: log.exists() and b"the training ended" in log.read_bytes())
    assert job.points() == []

    with served(job.server.settings, port):
        assert job.wait() == 0
    names = {point["name"] for point in job.points()}
    assert {"train_loss", "val_accuracy", "test_accuracy"} <= names
    lines = (job.folder / "work" / "output" / "metrics.jsonl").read_text().splitlines()
    assert len(job.points()) == sum(1 for line in lines if '"name"' in line)
    assert job.item()["properties"]["mlops:progress"] == 1.0
    assert job.item()["properties"]["mlops:status"] == "running"


@contextmanager
def served(settings: Settings, port: int) -> Iterator[None]:
    """A second API on the same database, at ``port``."""
    config = uvicorn.Config(create_app(settings), host="127.0.0.1", port=port, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(30)
