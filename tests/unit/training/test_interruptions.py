"""A training that was interrupted, and one in several processes: what comes of them."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mlops.storage.folder import FolderStore
from tests.unit.training.conftest import Chip, store_dataset
from tests.unit.training.test_pixel_timeseries import MakeDocument, Ran, recipe_process, run_recipe
from training.outputs import last_values, read_metrics
from training.recipes.inputs import RecipeError
from training.recipes.processes import Processes, epoch_seed
from training.recipes.resuming import Checkpoint, CheckpointFile

LONG = {"epochs": 40, "filters": 8, "dense_units": 16}


def weights(ran: Ran) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(ran.folders.model / "model.pt", weights_only=True)
    return found


def test_an_interrupted_training_ends_like_one_that_was_not(
    store: FolderStore, chips: list[Chip], document: MakeDocument, tmp_path: Path
) -> None:
    job = document([store_dataset(store, chips)], hyperparameters=LONG)
    whole = run_recipe(store, job, tmp_path / "whole")

    process, folders = recipe_process(store, job, tmp_path / "interrupted")
    deadline = time.monotonic() + 60
    while b"epoch   3/40" not in folders.log.read_bytes():
        assert process.poll() is None, folders.log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert not (folders.model / "model.onnx").exists()
    resumed = run_recipe(store, job, folders.root)

    assert resumed.code == 0, resumed.log
    assert "going on after epoch" in resumed.log
    assert resumed.log.count("epoch   1/40") == 1
    before, after = weights(whole), weights(resumed)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert last_values(read_metrics(whole.folders.metrics)) == last_values(
        read_metrics(resumed.folders.metrics)
    )


def test_the_checkpoint_of_another_training_is_left_alone(tmp_path: Path) -> None:
    checkpoint = Checkpoint(3, {"a": torch.ones(2)}, {}, 2, {"val_loss": 0.5}, {})
    CheckpointFile(tmp_path, {"epochs": 3}).save(checkpoint)

    found = CheckpointFile(tmp_path, {"epochs": 3}).load()
    assert found is not None
    assert (found.epoch, found.best_metrics) == (3, {"val_loss": 0.5})
    assert CheckpointFile(tmp_path, {"epochs": 4}).load() is None
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:200])
    assert CheckpointFile(tmp_path, {"epochs": 3}).load() is None


def test_two_processes_train_one_model(
    store: FolderStore, chips: list[Chip], document: MakeDocument, tmp_path: Path
) -> None:
    options = {"epochs": 6, "filters": 8, "dense_units": 16, "learning_rate": 0.01}
    job = document([store_dataset(store, chips)], hyperparameters=options)
    ran = run_recipe(store, job, tmp_path / "two", processes=2)

    assert ran.code == 0, ran.log
    assert "2 processes" in ran.log
    points = read_metrics(ran.folders.metrics)
    # Only one of them reports and hands over.
    assert [p.step for p in points if p.name == "train_loss"] == [*range(1, 7), points[-1].step]
    assert last_values(points)["test_balanced_accuracy"] > 0.9
    assert (ran.folders.model / "model.onnx").is_file()


def test_shares_of_a_batch_give_the_gradient_of_the_batch(tmp_path: Path) -> None:
    """Two processes and one, on the same batch: the same loss, gradient and statistics."""
    program = tmp_path / "program.py"
    program.write_text(
        """
import json, sys
import torch
from training.recipes.processes import Processes

processes = Processes.from_environment()
with processes.connected(torch.device("cpu")):
    torch.manual_seed(1)
    model = torch.nn.Linear(3, 2)
    data = torch.randn(7, 3)
    share = processes.share(torch.arange(7))
    loss = model(data[share]).square().sum() / 7
    loss.backward()
    total = processes.sum_step(model.parameters(), loss.detach())
    mean = data[share].mean(dim=0)
    processes.average([mean])
    first = processes.agree(processes.rank)
if processes.is_first:
    gradient = [part.grad.flatten().tolist() for part in model.parameters()]
    print(json.dumps([float(total), gradient, first]))
"""
    )
    answers = []
    for count in (1, 2):
        run = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        command = [sys.executable, *run, str(program)]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        answers.append(json.loads(ended.stdout))
    (loss, gradient, _), (shared_loss, shared_gradient, first) = answers
    assert abs(loss - shared_loss) < 1e-6
    torch.testing.assert_close(torch.tensor(gradient[0]), torch.tensor(shared_gradient[0]))
    torch.testing.assert_close(torch.tensor(gradient[1]), torch.tensor(shared_gradient[1]))
    assert first == 0


def test_every_epoch_and_process_has_a_seed_of_its_own() -> None:
    seeds = {
        epoch_seed(seed, epoch, rank)
        for seed in range(3)
        for epoch in range(50)
        for rank in range(4)
    }
    assert len(seeds) == 600
    assert epoch_seed(1, 2, 3) == epoch_seed(1, 2, 3)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_gpus_that_cannot_be_used_end_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU it would take days, at the price of GPUs."""
    processes = Processes.from_environment({"SM_NUM_GPUS": "4"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(RecipeError, match=r"needs a driver for CUDA 13\.0"):
        processes.device()
    monkeypatch.setattr(torch.version, "cuda", None)
    assert processes.device() == torch.device("cpu")
