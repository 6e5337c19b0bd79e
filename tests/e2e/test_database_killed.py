"""The embedded database is killed under the service, which brings it back by itself."""

from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.conftest import Stack, push_sample, submit, wait_for

pytestmark = pytest.mark.e2e


def postmaster(stack: Stack) -> psutil.Process:
    pid_file = stack.home.folder / "postgres" / "data" / "postmaster.pid"
    return psutil.Process(int(pid_file.read_text().split()[0]))


def kill(process: psutil.Process) -> None:
    """SIGKILL: what it started is left to find out by itself."""
    process.kill()
    psutil.wait_procs([process], timeout=10)


def wait_until_ready(stack: Stack) -> None:
    wait_for(lambda: httpx.get(f"{stack.url}/healthz/ready").is_success, "readiness", 60)


def test_answers_again_and_goes_on(stack: Stack, tmp_path: Any) -> None:
    push_sample(stack, tmp_path / "sample")
    before = submit(stack, "epochs=1")
    stack.wait_for_status("test", before, "successful")
    for _ in range(2):
        killed = postmaster(stack)
        kill(killed)
        wait_until_ready(stack)
        assert postmaster(stack).pid != killed.pid
    assert stack.run("test", before)["properties"]["mlops:status"] == "successful"
    after = submit(stack, "epochs=1")
    stack.wait_for_status("test", after, "successful")


def test_killed_while_a_run_trains(stack: Stack, tmp_path: Any) -> None:
    """The job keeps what it measures until the API has it."""
    push_sample(stack, tmp_path / "sample")
    run = submit(stack, "epochs=20")
    stack.wait_for_status("test", run, "running")
    kill(postmaster(stack))
    wait_until_ready(stack)
    stack.wait_for_status("test", run, "successful")
    url = f"{stack.url}/collections/test-training-runs/items/{run}/metrics"
    points = httpx.get(url).json()["points"]
    losses = [(p["step"], p["time"]) for p in points if p["name"] == "train_loss"]
    assert {step for step, _ in losses} == set(range(1, 21)), "metrics were lost"
    assert len(losses) == len(set(losses)), "a batch counted twice"
