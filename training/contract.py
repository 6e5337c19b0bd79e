"""SageMaker's script-mode contract: the folders and the environment of the training script.

The agent (:mod:`training.job`) makes them, the script finds them, whatever engine runs the job.
Beside SageMaker's own names a script is told:

======================= ==========================================================================
``MLOPS_MANIFEST``      Parquet, a row a sample: where its staged files lie (see `staging`)
``MLOPS_CLASSES``       JSON, ``classification:classes`` of the datasets
``MLOPS_OBJECTIVE``     JSON, ``{"metric": ..., "goal": "maximize" | "minimize"}``
``MLOPS_METRICS_FILE``  JSON lines that the script appends (see `metrics_file`)
======================= ==========================================================================
"""

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops.jobs import JOB_DOCUMENT_ENV, RUN_TOKEN_ENV, JobDocument, Split

MANIFEST_ENV = "MLOPS_MANIFEST"
CLASSES_ENV = "MLOPS_CLASSES"
OBJECTIVE_ENV = "MLOPS_OBJECTIVE"
METRICS_FILE_ENV = "MLOPS_METRICS_FILE"
_HOST = "algo-1"


@dataclass(frozen=True)
class WorkFolders:
    """Where the parts of a job lie below its work folder."""

    root: Path

    @property
    def blobs(self) -> Path:
        """Staged files by content."""
        return self.root / "input" / "blobs"

    @property
    def manifest(self) -> Path:
        """The staged samples of all datasets."""
        return self.root / "input" / "manifest.parquet"

    def channel(self, split: Split) -> Path:
        """The staged files of one channel."""
        return self.root / "input" / "data" / split

    @property
    def model(self) -> Path:
        """Where the script puts its model."""
        return self.root / "model"

    @property
    def output_data(self) -> Path:
        """Where the script puts anything else."""
        return self.root / "output" / "data"

    @property
    def checkpoints(self) -> Path:
        """Where the script keeps what it would go on from."""
        return self.root / "checkpoints"

    @property
    def metrics(self) -> Path:
        """The file to which the script appends its metrics."""
        return self.root / "output" / "metrics.jsonl"

    @property
    def log(self) -> Path:
        """What script and agent write to stdout and stderr."""
        return self.root / "output" / "log.txt"

    def create(self) -> None:
        """Make the folders that a script may write to."""
        for folder in (self.blobs, self.model, self.output_data, self.checkpoints):
            folder.mkdir(parents=True, exist_ok=True)


def script_environment(
    document: JobDocument,
    folders: WorkFolders,
    *,
    channels: tuple[Split, ...],
    classes: list[dict[str, Any]],
    gpus: int,
    inherited: Mapping[str, str],
) -> dict[str, str]:
    """The environment of the training script: what it inherits and the contract's variables.

    The job's token and document stay with the agent: the script reports through files.
    """
    own = {JOB_DOCUMENT_ENV, RUN_TOKEN_ENV}
    environment = {name: value for name, value in inherited.items() if name not in own}
    hyperparameters = document.hyperparameters
    objective = {"metric": document.objective_metric, "goal": document.objective_goal}
    environment |= {
        "SM_HPS": json.dumps(hyperparameters),
        "SM_CHANNELS": json.dumps(list(channels)),
        "SM_MODEL_DIR": str(folders.model),
        "SM_OUTPUT_DATA_DIR": str(folders.output_data),
        "SM_CHECKPOINT_DIR": str(folders.checkpoints),
        "SM_NUM_GPUS": str(gpus),
        "SM_NUM_CPUS": str(cpu_count()),
        "SM_HOSTS": json.dumps([_HOST]),
        "SM_CURRENT_HOST": _HOST,
        MANIFEST_ENV: str(folders.manifest),
        CLASSES_ENV: json.dumps(classes),
        OBJECTIVE_ENV: json.dumps(objective),
        METRICS_FILE_ENV: str(folders.metrics),
        "PYTHONUNBUFFERED": "1",
    }
    # OpenMP's threads spin while they wait: where two jobs share the cores, each then takes the
    # other's time, and a training step took ten times as long.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for split in channels:
        environment[f"SM_CHANNEL_{split.upper()}"] = str(folders.channel(split))
    for name, value in hyperparameters.items():
        environment[f"SM_HP_{_variable(name)}"] = argument(value)
    return environment


def script_command(module: str, hyperparameters: Mapping[str, Any]) -> list[str]:
    """How the script is started: ``python -m module --name value ...``."""
    command = [sys.executable, "-m", module]
    for name, value in hyperparameters.items():
        if value is not None:
            command += [f"--{name}", argument(value)]
    return command


def argument(value: Any) -> str:
    """A hyperparameter as text: strings as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def cpu_count() -> int:
    """The cores that this process may use, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _variable(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", name.upper())
