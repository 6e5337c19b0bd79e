"""Where a job runs: a SageMaker container, a node of AWS Batch, or a process of this machine.

SageMaker: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
Batch: https://docs.aws.amazon.com/batch/latest/userguide/job_env_vars.html
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from training.contract import Hosts, WorkFolders

WORK_DIR_ENV = "MLOPS_WORK_DIR"
_BASE_ENV = "SAGEMAKER_BASE_DIR"
_BASE = "/opt/ml"
# What SageMaker shows of it in a job's FailureReason.
_FAILURE_LENGTH = 1024


@dataclass(frozen=True)
class Place:
    """What the agent has to know of where it runs."""

    folders: WorkFolders
    hosts: Hosts = field(default_factory=Hosts)
    keeps_checkpoints: bool = False
    """Whether the platform itself copies the checkpoint folder to the object store and back."""
    shows_output: bool = False
    """Whether the platform collects what the container writes to its standard output."""
    failure_file: Path | None = None
    """Where the platform reads why a job failed."""

    def tell_failure(self, reason: str) -> None:
        """Tell the platform why the job failed."""
        if self.failure_file is not None:
            self.failure_file.parent.mkdir(parents=True, exist_ok=True)
            self.failure_file.write_text(reason[:_FAILURE_LENGTH])


def find_place(document: str, environment: Mapping[str, str]) -> Place:
    """The place of the job whose document lies at ``document`` (a path or ``s3://`` URL)."""
    base = Path(environment.get(_BASE_ENV, _BASE))
    if (base / "input" / "config" / "resourceconfig.json").is_file():
        return _sagemaker(base)
    return Place(
        WorkFolders(_work_folder(document, environment)),
        hosts=_batch_hosts(environment),
        shows_output="AWS_BATCH_JOB_ID" in environment,
    )


def _sagemaker(base: Path) -> Place:
    config = base / "input" / "config"
    resources: dict[str, Any] = json.loads((config / "resourceconfig.json").read_text())
    names = tuple(sorted(resources["hosts"]))
    folders = _writable(base)
    kept = (config / "checkpointconfig.json").is_file() and folders.checkpoints.parent == base
    failure = base / "output" / "failure"
    return Place(
        folders,
        hosts=Hosts(
            names=names,
            current=resources["current_host"],
            address=names[0],
            network_interface=resources.get("network_interface_name"),
        ),
        keeps_checkpoints=kept,
        shows_output=True,
        failure_file=failure if _is_writable(failure.parent) else None,
    )


def _writable(base: Path) -> WorkFolders:
    """SageMaker's folders; those that this container's user may not write to lie elsewhere."""
    parts = ("code", "input", "model", "output", "checkpoints")
    closed = [name for name in parts if not _is_writable(base / name)]
    if not closed:
        return WorkFolders(base)
    scratch = Path(tempfile.mkdtemp(prefix="mlops-job-"))
    return WorkFolders(base, {name: scratch / name for name in closed})


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _batch_hosts(environment: Mapping[str, str]) -> Hosts:
    """The nodes of a multi-node job, the main one first; Batch gives numbers, not names."""
    count = int(environment.get("AWS_BATCH_JOB_NUM_NODES", "1"))
    if count == 1:
        return Hosts()
    main = int(environment["AWS_BATCH_JOB_MAIN_NODE_INDEX"])
    current = int(environment["AWS_BATCH_JOB_NODE_INDEX"])
    indices = [main, *(index for index in range(count) if index != main)]
    return Hosts(
        names=tuple(f"algo-{index + 1}" for index in indices),
        current=f"algo-{current + 1}",
        # The main node is not told its own address.
        address=environment.get("AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS", "127.0.0.1"),
    )


def _work_folder(document: str, environment: Mapping[str, str]) -> Path:
    if chosen := environment.get(WORK_DIR_ENV):
        return Path(chosen).resolve()
    if urlsplit(document).scheme == "s3":
        return Path(tempfile.mkdtemp(prefix="mlops-job-"))
    return Path(document).resolve().parent / "work"
