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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops.jobs import JOB_DOCUMENT_ENV, RUN_TOKEN_ENV, JobDocument, Split

MANIFEST_ENV = "MLOPS_MANIFEST"
CLASSES_ENV = "MLOPS_CLASSES"
OBJECTIVE_ENV = "MLOPS_OBJECTIVE"
METRICS_FILE_ENV = "MLOPS_METRICS_FILE"
_HOST = "algo-1"
_MASTER_PORT_ENV = "MASTER_PORT"
_MASTER_PORT = "29500"


@dataclass(frozen=True)
class Hosts:
    """The machines that a job runs on, the first of which reports and hands over the model."""

    names: tuple[str, ...] = (_HOST,)
    current: str = _HOST
    address: str = "127.0.0.1"
    """Where this host reaches the first one."""
    network_interface: str | None = None
    """Through which the hosts talk, where the platform names it."""

    @property
    def rank(self) -> int:
        """This host's place in the list."""
        return self.names.index(self.current)

    @property
    def is_first(self) -> bool:
        """Whether this host speaks for the job."""
        return self.rank == 0


@dataclass(frozen=True)
class WorkFolders:
    """Where the parts of a job lie: below ``root``, or ``elsewhere`` by the part's name."""

    root: Path
    elsewhere: Mapping[str, Path] = field(default_factory=dict)

    @property
    def code(self) -> Path:
        """Where the script is started."""
        return self._part("code")

    @property
    def blobs(self) -> Path:
        """Staged files by content, beside the channels that link to them."""
        return self._part("input") / "data" / ".blobs"

    @property
    def manifest(self) -> Path:
        """The staged samples of all datasets."""
        return self._part("input") / "manifest.parquet"

    def channel(self, split: Split) -> Path:
        """The staged files of one channel."""
        return self._part("input") / "data" / split

    @property
    def model(self) -> Path:
        """Where the script puts its model."""
        return self._part("model")

    @property
    def output_data(self) -> Path:
        """Where the script puts anything else."""
        return self._part("output") / "data"

    @property
    def checkpoints(self) -> Path:
        """Where the script keeps what it would go on from."""
        return self._part("checkpoints")

    @property
    def metrics(self) -> Path:
        """The file to which the script appends its metrics."""
        return self._part("output") / "metrics.jsonl"

    @property
    def metrics_table(self) -> Path:
        """The same as Parquet, made at the end."""
        return self._part("output") / "metrics.parquet"

    @property
    def log(self) -> Path:
        """What script and agent write to stdout and stderr."""
        return self._part("output") / "log.txt"

    def create(self) -> None:
        """Make the folders that a script may write to."""
        for folder in (self.code, self.blobs, self.model, self.output_data, self.checkpoints):
            folder.mkdir(parents=True, exist_ok=True)

    def _part(self, name: str) -> Path:
        return self.elsewhere.get(name, self.root / name)


def script_environment(
    document: JobDocument,
    folders: WorkFolders,
    *,
    channels: tuple[Split, ...],
    classes: list[dict[str, Any]],
    gpus: int,
    hosts: Hosts,
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
        "SM_HOSTS": json.dumps(list(hosts.names)),
        "SM_CURRENT_HOST": hosts.current,
        MANIFEST_ENV: str(folders.manifest),
        CLASSES_ENV: json.dumps(classes),
        OBJECTIVE_ENV: json.dumps(objective),
        METRICS_FILE_ENV: str(folders.metrics),
        "PYTHONUNBUFFERED": "1",
    }
    if hosts.network_interface is not None:
        environment["SM_NETWORK_INTERFACE_NAME"] = hosts.network_interface
        # Both would otherwise take the interface that the host's name resolves to.
        environment.setdefault("NCCL_SOCKET_IFNAME", hosts.network_interface)
        environment.setdefault("GLOO_SOCKET_IFNAME", hosts.network_interface)
    # OpenMP's threads spin while they wait: where two jobs share the cores, each then takes the
    # other's time, and a training step took ten times as long.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for split in channels:
        environment[f"SM_CHANNEL_{split.upper()}"] = str(folders.channel(split))
    for name, value in hyperparameters.items():
        environment[f"SM_HP_{_variable(name)}"] = argument(value)
    return environment


def script_command(
    module: str, hyperparameters: Mapping[str, Any], launcher: Sequence[str] = ("-m",)
) -> list[str]:
    """How the script is started: ``python -m module --name value ...``."""
    command = [sys.executable, *launcher, module]
    for name, value in hyperparameters.items():
        if value is not None:
            command += [f"--{name}", argument(value)]
    return command


def launcher(
    framework: str, hosts: Hosts, gpus: int, environment: Mapping[str, str]
) -> tuple[str, ...]:
    """What stands between Python and the script's module: torchrun for several processes.

    PyTorch trains with a process a GPU, and one a host where there is none. Other frameworks find
    their hosts in ``SM_HOSTS``. Hosts meet at ``MASTER_PORT`` (29500) of the first.
    """
    processes = max(gpus, 1)
    if framework != "pytorch" or (len(hosts.names) == 1 and processes == 1):
        return ("-m",)
    run = ("-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--max-restarts=0")
    if len(hosts.names) == 1:
        # A free port: other jobs may run on this machine.
        return (*run, "--standalone", "-m")
    return (
        *run,
        f"--nnodes={len(hosts.names)}",
        f"--node-rank={hosts.rank}",
        f"--master-addr={hosts.address}",
        f"--master-port={environment.get(_MASTER_PORT_ENV, _MASTER_PORT)}",
        "-m",
    )


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
