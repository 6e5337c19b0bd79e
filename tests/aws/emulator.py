"""LocalStack without containers: started, waited for, ended; and clients of it.

What its open part lacks (API Gateway v2, Aurora, Batch, SageMaker) is said in `deployment`.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
from botocore.config import Config

from tests.aws.account import ACCESS_KEY, REGION, SECRET_KEY
from tests.aws.lambda_process import RUNTIME

REPOSITORY = Path(__file__).resolve().parents[2]
VENV = REPOSITORY / ".venv-localstack"
_START_PATIENCE = 60.0


@dataclass(frozen=True)
class LocalStack:
    """A running LocalStack. ``calls`` has the AWS calls of its functions, ``logs`` their logs."""

    url: str
    folder: Path
    process: "subprocess.Popen[bytes]"

    @property
    def calls(self) -> Path:
        """JSON lines, one for each AWS call that a function made."""
        return self.folder / "calls.jsonl"

    @property
    def logs(self) -> Path:
        """A file for each function."""
        return self.folder / "functions"

    def client(self, service: str) -> Any:
        """A boto3 client."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(retries={"mode": "standard"}, max_pool_connections=32),
        )

    def log_of(self, function: str) -> str:
        """What a function wrote so far, over all its processes."""
        file = self.logs / f"{function}.log"
        return file.read_text() if file.exists() else ""


def missing() -> str | None:
    """Why LocalStack cannot run here; None when it can."""
    if not (VENV / ".setup").exists() or not (RUNTIME / ".setup").exists():
        return "LocalStack is not installed: run `sh tests/aws/setup.sh` (`make test` does)"
    return None


@contextlib.contextmanager
def running() -> Iterator[LocalStack]:
    """LocalStack on a free port, with a folder of its own; ended afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="mlops-localstack-"))
    (folder / "functions").mkdir()
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    with (folder / "localstack.log").open("wb") as log:
        process = subprocess.Popen(
            [str(VENV / "bin" / "python"), "-m", "localstack.runtime.main"],
            cwd=folder,
            env=_environment(folder, port),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    emulator = LocalStack(url, folder, process)
    try:
        _wait(emulator)
        yield emulator
    finally:
        # With the functions that it runs, and at once: by itself it takes half a minute to put in
        # order what goes with its folder.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _environment(folder: Path, port: int) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        # The plug-in is in the repository.
        "PYTHONPATH": str(REPOSITORY),
        # Else it writes under /var/lib and /etc, as in its container.
        "OVERRIDE_IN_DOCKER": "0",
        "FILESYSTEM_ROOT": str(folder),
        "TMPDIR": str(folder),
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "DNS_ADDRESS": "0",
        # URLs of queues name this machine, not a host of LocalStack's domain.
        "LOCALSTACK_HOST": f"127.0.0.1:{port}",
        "SQS_ENDPOINT_STRATEGY": "path",
        # Nothing outside this machine is asked.
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "LAMBDA_RUNTIME_EXECUTOR": "process",
        # It waits a second after each batch and longer when there was none; AWS does not.
        "LAMBDA_EVENT_SOURCE_MAPPING_POLL_INTERVAL_SEC": "0.01",
        "LAMBDA_EVENT_SOURCE_MAPPING_MAX_BACKOFF_ON_EMPTY_POLL_SEC": "0.3",
        "LAMBDA_EVENT_SOURCE_MAPPING_MAX_BACKOFF_ON_ERROR_SEC": "1",
        # Alarms look at what queues report.
        "SQS_CLOUDWATCH_METRICS_REPORT_INTERVAL": "10",
        "LS_LOG": "warn",
        "PROCESS_EXECUTOR_PYTHON": sys.executable,
        "PROCESS_EXECUTOR_RUNTIME": str(RUNTIME),
        "PROCESS_EXECUTOR_CALLS": str(folder / "calls.jsonl"),
        "PROCESS_EXECUTOR_LOGS": str(folder / "functions"),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(emulator: LocalStack) -> None:
    deadline = time.monotonic() + _START_PATIENCE
    while time.monotonic() < deadline:
        if emulator.process.poll() is not None:
            break
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{emulator.url}/_localstack/health").is_success:
                return
        time.sleep(0.1)
    log = (emulator.folder / "localstack.log").read_text()
    raise RuntimeError(f"LocalStack did not start:\n{log[-4000:]}")
