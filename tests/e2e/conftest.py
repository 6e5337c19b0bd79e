"""The stack as its user has it: `mlops up` as a process, driven by the CLI."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import pytest

from infra.local.home import Home
from infra.local.postgres import Cluster

_PATIENCE = 240.0
Found = TypeVar("Found")


def wait_for(look: Callable[[], Found | None], what: str, patience: float = _PATIENCE) -> Found:
    """Look until there is something; fails the test when ``patience`` seconds have passed."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    pytest.fail(f"{what} did not come within {patience} seconds")


class Stack:
    """One home folder and the service that runs for it."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        self.url = ""
        self.settings: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        """Start the service and wait until it answers."""
        self.home.folder.mkdir(parents=True, exist_ok=True)
        self.home.withdraw()
        with (self.home.folder / "up.out").open("ab") as output:
            self.process = subprocess.Popen(
                [*_MLOPS, "up", "--home", str(self.home.folder), "--port", "0"],
                stdout=output,
                stderr=output,
                env={**_environment(), **self.settings},
            )
        self.url = wait_for(self._announced, "the service", 60)

    def kill(self) -> None:
        """SIGKILL: the service gets no chance to say or save anything."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def down(self) -> None:
        """Stop the service as Ctrl-C does."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)

    def destroy(self) -> None:
        """Stop everything and leave nothing behind."""
        self.down()
        for process in self.job_processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        Cluster(self.home.folder).stop()
        shutil.rmtree(self.home.folder, ignore_errors=True)

    def mlops(self, *arguments: str, code: int = 0) -> str:
        """Run an `mlops` command against this stack and return what it printed."""
        result = subprocess.run(
            [*_MLOPS, *arguments],
            capture_output=True,
            text=True,
            env={**_environment(), "MLOPS_HOME": str(self.home.folder)},
            timeout=_PATIENCE,
            check=False,
        )
        assert result.returncode == code, f"{arguments}: {result.stdout}\n{result.stderr}"
        return result.stdout if code == 0 else result.stdout + result.stderr

    def mlops_json(self, *arguments: str) -> Any:
        """Run an `mlops` command with --json and return the document that it printed."""
        return json.loads(self.mlops(*arguments, "--json"))

    def run(self, workspace: str, run: str) -> dict[str, Any]:
        """A run's Item."""
        item: dict[str, Any] = httpx.get(
            f"{self.url}/collections/{workspace}-training-runs/items/{run}"
        ).json()
        return item

    def wait_for_status(self, workspace: str, run: str, *statuses: str) -> dict[str, Any]:
        """Wait until a run has one of ``statuses`` and return its Item."""

        def look() -> dict[str, Any] | None:
            item = self.run(workspace, run)
            return item if item["properties"]["mlops:status"] in statuses else None

        return wait_for(look, f"status {' or '.join(statuses)} of {run}")

    def job_processes(self) -> list[psutil.Process]:
        """Every process that belongs to a job of this stack."""
        marker = str(self.home.jobs)
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(marker in value for value in process.environ().values()):
                    found.append(process)
        return found

    def _announced(self) -> str | None:
        assert self.process is not None
        if self.process.poll() is not None:
            pytest.fail((self.home.folder / "up.out").read_text())
        return self.home.endpoint()


_MLOPS = [sys.executable, "-m", "cli.main"]


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}


@pytest.fixture(scope="session")
def shared_stack() -> Iterator[Stack]:
    """A stack for tests that leave it as good as they found it."""
    yield from _stack()


@pytest.fixture
def stack() -> Iterator[Stack]:
    """A stack for one test, which may break it."""
    yield from _stack()


def _stack() -> Iterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="mlops-e2e-"))
    folder.chmod(0o755)
    stack = Stack(folder)
    try:
        stack.up()
        yield stack
    finally:
        stack.destroy()


def push_sample(stack: Stack, folder: Path, workspace: str = "test") -> None:
    """Make a workspace with the synthetic dataset `sample` in it."""
    stack.mlops("workspace", "create", workspace)
    stack.mlops("data", "sample", str(folder))
    stack.mlops("data", "push", str(folder), "--dataset", "sample", "--workspace", workspace)


def submit(stack: Stack, *parameters: str, workspace: str = "test") -> str:
    """Submit a run on the dataset `sample` and return its id."""
    options = [option for parameter in parameters for option in ("--param", parameter)]
    item = stack.mlops_json(
        *("run", "submit", "--model", "landcover", "--recipe", "pixel-timeseries"),
        *("--data", "sample", "--workspace", workspace, *options),
    )
    return str(item["id"])
