"""Where a job runs, as the platforms tell it."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops.jobs import JobDocument
from training.contract import Hosts, WorkFolders, launcher, script_environment
from training.environment import find_devices
from training.job import load_token
from training.place import find_place


def _resources(base: Path, hosts: list[str], current: str) -> None:
    config = base / "input" / "config"
    config.mkdir(parents=True)
    content = {"hosts": hosts, "current_host": current, "network_interface_name": "eth0"}
    (config / "resourceconfig.json").write_text(json.dumps(content))


def test_on_one_machine_the_folder_is_beside_the_document(tmp_path: Path) -> None:
    place = find_place(str(tmp_path / "job.json"), {"SAGEMAKER_BASE_DIR": str(tmp_path)})

    assert place.folders == WorkFolders(tmp_path / "work")
    assert place.hosts == Hosts()
    assert place.hosts.is_first
    assert not place.shows_output
    place.tell_failure("nobody is told")


def test_sagemaker_names_hosts_and_folders(tmp_path: Path) -> None:
    hosts = ["algo-2", "algo-1", "algo-3"]
    _resources(tmp_path, hosts, "algo-2")
    place = find_place("s3://b/job.json", {"SAGEMAKER_BASE_DIR": str(tmp_path)})

    assert place.hosts == Hosts(("algo-1", "algo-2", "algo-3"), "algo-2", "algo-1", "eth0")
    assert (place.hosts.rank, place.hosts.is_first) == (1, False)
    assert place.folders == WorkFolders(tmp_path)
    assert place.folders.model == tmp_path / "model"
    assert place.shows_output
    # Without a CheckpointConfig nobody but the agent copies checkpoints.
    assert not place.keeps_checkpoints
    (tmp_path / "input" / "config" / "checkpointconfig.json").write_text("{}")
    place = find_place("s3://b/job.json", {"SAGEMAKER_BASE_DIR": str(tmp_path)})
    assert place.keeps_checkpoints
    place.tell_failure("why" * 1000)
    assert len((tmp_path / "output" / "failure").read_text()) == 1024


def test_folders_that_are_closed_lie_elsewhere(tmp_path: Path) -> None:
    """A user other than root may find SageMaker's folders closed."""
    _resources(tmp_path, ["algo-1"], "algo-1")
    (tmp_path / "input" / "config" / "checkpointconfig.json").write_text("{}")
    for name in ("model", "checkpoints"):
        # Not a folder: closed to root, too.
        (tmp_path / name).write_text("")
    place = find_place("s3://b/job.json", {"SAGEMAKER_BASE_DIR": str(tmp_path)})

    place.folders.create()
    assert not place.folders.model.is_relative_to(tmp_path)
    assert place.folders.output_data == tmp_path / "output" / "data"
    # What SageMaker cannot see it cannot copy.
    assert not place.keeps_checkpoints


def test_nodes_of_a_batch_job_have_numbers(tmp_path: Path) -> None:
    node = {
        "MLOPS_WORK_DIR": str(tmp_path),
        "AWS_BATCH_JOB_ID": "5b1c",
        "AWS_BATCH_JOB_NUM_NODES": "3",
        "AWS_BATCH_JOB_MAIN_NODE_INDEX": "0",
    }
    main = find_place("s3://b/job.json", {**node, "AWS_BATCH_JOB_NODE_INDEX": "0"})
    other = find_place(
        "s3://b/job.json",
        {
            **node,
            "AWS_BATCH_JOB_NODE_INDEX": "2",
            "AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS": "10.0.0.7",
        },
    )

    assert main.hosts == Hosts(("algo-1", "algo-2", "algo-3"), "algo-1", "127.0.0.1")
    assert main.hosts.is_first
    assert (other.hosts.rank, other.hosts.address) == (2, "10.0.0.7")
    assert other.shows_output
    assert other.folders.root == tmp_path


def test_torchrun_is_used_for_several_processes_only() -> None:
    hosts = Hosts(("algo-1", "algo-2"), "algo-2", "algo-1")
    assert launcher("pytorch", Hosts(), 1, {}) == ("-m",)
    assert launcher("pytorch", Hosts(), 0, {}) == ("-m",)
    assert launcher("tensorflow", hosts, 4, {}) == ("-m",)
    alone = launcher("pytorch", Hosts(), 4, {})
    assert "--nproc-per-node=4" in alone
    assert "--standalone" in alone
    several = launcher("pytorch", hosts, 0, {"MASTER_PORT": "7777"})
    assert several[:2] == ("-m", "torch.distributed.run")
    assert {
        "--nnodes=2",
        "--node-rank=1",
        "--nproc-per-node=1",
        "--master-addr=algo-1",
        "--master-port=7777",
    } <= set(several)


def test_a_script_is_told_of_the_hosts(
    document: Callable[..., JobDocument], tmp_path: Path
) -> None:
    environment = script_environment(
        document([]),
        WorkFolders(tmp_path),
        channels=(),
        classes=[],
        gpus=0,
        hosts=Hosts(("algo-1", "algo-2"), "algo-2", "algo-1", "eth0"),
        inherited={"NCCL_SOCKET_IFNAME": "chosen"},
    )
    assert json.loads(environment["SM_HOSTS"]) == ["algo-1", "algo-2"]
    assert environment["SM_CURRENT_HOST"] == "algo-2"
    assert environment["SM_NETWORK_INTERFACE_NAME"] == "eth0"
    assert environment["GLOO_SOCKET_IFNAME"] == "eth0"
    assert environment["NCCL_SOCKET_IFNAME"] == "chosen"


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, ("NVIDIA A10G", "NVIDIA A10G", "Tesla T4")),
        ("", ()),
        ("-1", ()),
        ("2", ("Tesla T4",)),
        ("2,0", ("Tesla T4", "NVIDIA A10G")),
        ("0,7,1", ("NVIDIA A10G",)),
        ("GPU-cc", ("Tesla T4",)),
    ],
)
def test_gpus_are_counted_as_cuda_would_show_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, expected: tuple[str, ...]
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\n"
        '[ "$1" = --query-gpu=index,uuid,name ] && [ "$2" = --format=csv,noheader ] || exit 2\n'
        "echo '0, GPU-aa1, NVIDIA A10G'\necho '1, GPU-bb2, NVIDIA A10G'\n"
        "echo '2, GPU-cc3, Tesla T4'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert find_devices().gpus == expected


def test_the_token_is_in_the_environment_or_beside_the_document(tmp_path: Path) -> None:
    place = str(tmp_path / "job.json")
    assert load_token(place, {}) is None
    (tmp_path / "token").write_text("beside\n")
    assert load_token(place, {}) == "beside"
    assert load_token(place, {"MLOPS_RUN_TOKEN": "given"}) == "given"
