"""It does not break: each fault is caused, and what must hold afterwards is looked at."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from mlops.storage import keys
from tests.e2e.conftest import Stack, push_sample, submit, wait_for

pytestmark = pytest.mark.e2e

# Long enough that a fault can be caused in the middle; never waited for.
LONG = "epochs=2000"


def history(stack: Stack, run: str) -> list[dict[str, Any]]:
    url = f"{stack.url}/collections/test-training-runs/items/{run}/metrics"
    points: list[dict[str, Any]] = httpx.get(url).json()["points"]
    return points


def wait_until_training(stack: Stack, run: str) -> None:
    wait_for(lambda: history(stack, run), "the first metrics")


def trainer(stack: Stack) -> psutil.Process:
    """The process that runs the training script."""
    found = [p for p in stack.job_processes() if "pixel_timeseries" in " ".join(p.cmdline())]
    assert found
    return found[0]


def assert_no_job_process(stack: Stack) -> None:
    wait_for(lambda: not stack.job_processes(), "the end of every process of the job", 30)


class TestJob:
    def test_killed_fails_within_seconds(self, stack: Stack, tmp_path: Path) -> None:
        push_sample(stack, tmp_path / "sample")
        run = submit(stack, LONG)
        wait_until_training(stack, run)
        job = next(p for p in stack.job_processes() if p.cmdline()[1:] == ["-m", "training.job"])
        os.killpg(job.pid, signal.SIGKILL)
        ended = stack.wait_for_status("test", run, "failed")
        assert "SIGKILL" in ended["properties"]["mlops:exit"]["reason"]
        assert_no_job_process(stack)

    def test_killed_with_its_runner_is_lost(self, stack: Stack, tmp_path: Path) -> None:
        """Every process of the job at once, as when a machine kills what it can find."""
        push_sample(stack, tmp_path / "sample")
        run = submit(stack, LONG)
        wait_until_training(stack, run)
        for process in stack.job_processes():
            process.kill()
        ended = stack.wait_for_status("test", run, "failed")
        assert "lost" in ended["properties"]["mlops:exit"]["reason"]
        assert_no_job_process(stack)

    def test_whose_script_is_killed_fails(self, stack: Stack, tmp_path: Path) -> None:
        push_sample(stack, tmp_path / "sample")
        run = submit(stack, LONG)
        wait_until_training(stack, run)
        trainer(stack).kill()
        ended = stack.wait_for_status("test", run, "failed")
        assert "SIGKILL" in ended["properties"]["mlops:exit"]["reason"]
        assert {"log", "metrics"} <= ended["assets"].keys()

    def test_whose_script_raises_says_why(self, stack: Stack, tmp_path: Path) -> None:
        push_sample(stack, tmp_path / "sample")
        run = submit(stack, "epochs=2", "learning_rate=1e30")
        ended = stack.wait_for_status("test", run, "failed")["properties"]["mlops:exit"]
        assert ended["code"] == 1
        assert "loss" in ended["reason"]
        text = stack.mlops("run", "logs", run, "-w", "test")
        assert ended["reason"].split(":")[-1].strip()[:40] in text

    def test_dismissed_ends_the_whole_group(self, stack: Stack, tmp_path: Path) -> None:
        push_sample(stack, tmp_path / "sample")
        run = submit(stack, LONG)
        queued = submit(stack, LONG)
        wait_until_training(stack, run)
        for dismissed in (queued, run):
            stack.mlops("run", "dismiss", dismissed, "-w", "test")
        assert_no_job_process(stack)
        for dismissed in (queued, run):
            assert stack.run("test", dismissed)["properties"]["mlops:status"] == "dismissed"


class TestService:
    def test_killed_in_the_middle_of_a_run(self, stack: Stack, tmp_path: Path) -> None:
        """The run goes on without the service, and its metrics are complete afterwards."""
        push_sample(stack, tmp_path / "sample")
        epochs = 12
        run = submit(stack, f"epochs={epochs}")
        wait_until_training(stack, run)
        stack.kill()
        time.sleep(3)  # the job trains on with nobody to tell
        stack.up()
        ended = stack.wait_for_status("test", run, "successful", "failed")
        assert ended["properties"]["mlops:status"] == "successful"
        losses = [(p["step"], p["value"]) for p in history(stack, run) if p["name"] == "train_loss"]
        assert [step for step, _ in losses[:epochs]] == list(range(1, epochs + 1))
        # The recipe says once more, at the end, what the epoch that it kept had.
        assert losses[epochs:] in ([], [losses[losses[-1][0] - 1]])
        models = httpx.get(f"{stack.url}/collections/test-models/items").json()["features"]
        assert [model["id"] for model in models] == ["landcover-v1"]

    def test_stopped_and_started_again_loses_nothing(self, stack: Stack, tmp_path: Path) -> None:
        push_sample(stack, tmp_path / "sample")
        run = submit(stack, "epochs=1", "max_pixels=2000")
        before = stack.wait_for_status("test", run, "successful")
        stack.down()
        assert not (stack.home.folder / "endpoint.json").exists()
        stack.up()
        assert stack.run("test", run) == before
        stack.mlops("model", "pull", "landcover", "-w", "test", "-o", str(tmp_path / "m.onnx"))

    def test_killed_while_the_job_ends(self, stack: Stack, tmp_path: Path) -> None:
        """The job waits for the API with what it has to say, and says it."""
        push_sample(stack, tmp_path / "sample")
        run = submit(stack, "epochs=2", "max_pixels=2000")
        stack.wait_for_status("test", run, "running")
        stack.kill()
        script_gone = "the end of the training script"
        wait_for(lambda: not _scripts(stack), script_gone)
        stack.up()
        ended = stack.wait_for_status("test", run, "successful", "failed")
        assert ended["properties"]["mlops:status"] == "successful"


def _scripts(stack: Stack) -> list[psutil.Process]:
    return [p for p in stack.job_processes() if "pixel_timeseries" in " ".join(p.cmdline())]


class TestData:
    def test_altered_on_disk_is_refused_by_name(self, stack: Stack, tmp_path: Path) -> None:
        push_sample(stack, tmp_path / "sample")
        original = min((tmp_path / "sample" / "train").glob("*.tif"))
        digest = hashlib.sha256(original.read_bytes()).hexdigest()
        blob = stack.home.store / keys.blob("test", digest)
        content = bytearray(blob.read_bytes())
        content[len(content) // 2] ^= 0xFF
        blob.write_bytes(content)
        run = submit(stack, "epochs=1")
        ended = stack.wait_for_status("test", run, "failed")["properties"]["mlops:exit"]
        assert ended["code"] == 2
        assert original.name in ended["reason"]


class TestStop:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_leaves_no_process(self, stack: Stack, number: signal.Signals) -> None:
        server = psutil.Process(
            int((stack.home.folder / "postgres/data/postmaster.pid").read_text().split()[0])
        )
        assert stack.process is not None
        stack.process.send_signal(number)
        assert stack.process.wait(30) == 0
        # Where nobody collects it, an ended process stays as a zombie.
        assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE


class TestStart:
    def test_with_a_store_that_cannot_be_written(self, tmp_path: Path) -> None:
        result = subprocess.run(
            [sys.executable, "-m", "cli.main", "up", "--home", str(tmp_path), "--port", "0"],
            env={**os.environ, "MLOPS_STORAGE": "/proc/no-store-here"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 1
        assert "/proc/no-store-here cannot be written" in " ".join(result.stderr.split())
        assert "MLOPS_STORAGE" in result.stderr
        assert "Traceback" not in result.stderr

    def test_twice_for_one_home(self, shared_stack: Stack) -> None:
        text = shared_stack.mlops("up", code=1)
        assert "runs already" in text
        assert shared_stack.url in text

    def test_on_a_port_in_use(self, shared_stack: Stack, tmp_path: Path) -> None:
        port = shared_stack.url.rsplit(":", 1)[1]
        result = subprocess.run(
            [sys.executable, "-m", "cli.main", "up", "--home", str(tmp_path), "--port", port],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 1
        assert f"port {port}" in result.stderr
