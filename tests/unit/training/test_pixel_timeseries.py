"""The recipe as a job runs it: a process of its own under the script-mode contract."""

import json
import math
import os
import re
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mlops.datasets.pixels import IGNORED, read_sample
from mlops.items.model_description import ModelDescription
from mlops.jobs import JobDocument
from mlops.storage.folder import FolderStore
from tests.unit.training.conftest import CLASSES, DATES, Chip, store_dataset, write_chip
from training.contract import Hosts, WorkFolders, launcher, script_command, script_environment
from training.outputs import last_values, read_metrics
from training.recipes.pixel_timeseries.network import GapFilling
from training.recipes.pixel_timeseries.scores import baseline_scores, confusion_matrix, scores
from training.script import find_failure
from training.staging import stage

MakeDocument = Callable[..., JobDocument]


@dataclass(frozen=True)
class Ran:
    """A recipe that has ended."""

    code: int
    folders: WorkFolders

    @property
    def log(self) -> str:
        return self.folders.log.read_text()

    @property
    def description(self) -> ModelDescription:
        content = (self.folders.model / "model.json").read_text()
        return ModelDescription.model_validate_json(content)

    def session(self) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(self.folders.model / "model.onnx")


def recipe_process(
    store: FolderStore, document: JobDocument, root: Path, processes: int = 1
) -> tuple[subprocess.Popen[bytes], WorkFolders]:
    """The recipe, started as a job starts it."""
    folders = WorkFolders(root)
    staged = stage(store, document.datasets, folders, threading.Event())
    environment = script_environment(
        document,
        folders,
        channels=staged.channels,
        classes=document.datasets[0].classes,
        gpus=0,
        hosts=Hosts(),
        inherited=os.environ,
    )
    command = script_command(
        "training.recipes.pixel_timeseries",
        document.hyperparameters,
        launcher(document.framework, Hosts(), processes, os.environ),
    )
    with folders.log.open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    return process, folders


def run_recipe(store: FolderStore, document: JobDocument, root: Path, processes: int = 1) -> Ran:
    process, folders = recipe_process(store, document, root, processes)
    return Ran(process.wait(), folders)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The recipe after three epochs on tiny chips; trained once for all tests that only look."""
    root = tmp_path_factory.mktemp("trained")
    store = FolderStore(root / "store")
    store.folder.mkdir()
    chips = [
        write_chip(root / "chips", f"chip-{seed}", split, seed=seed)
        for seed, split in enumerate(("train", "train", "train", "validation", "test"))
    ]
    document = JobDocument(
        name="tiny",
        workspace="alps",
        collection="alps-training-runs",
        item="tiny",
        attempt=1,
        api_url="http://127.0.0.1:9",
        storage_url=store.url,
        output_prefix="alps/training-runs/tiny/attempt-1/",
        model="landcover",
        task="classification",
        framework="pytorch",
        recipe="pixel-timeseries",
        hyperparameters={
            "epochs": 3,
            "filters": 8,
            "dense_units": 16,
            "batch_size": 32,
            "learning_rate": 0.01,
            "dropout": 0.1,
        },
        objective_metric="val_balanced_accuracy",
        objective_goal="maximize",
        datasets=[store_dataset(store, chips)],
        max_runtime=600,
    )
    ran = run_recipe(store, document, root / "work")
    assert ran.code == 0, ran.log
    return ran


def _chip_pixels(ran: Ran, split: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    folder = next((ran.folders.root / "input" / "data" / split / "fields-v1").iterdir())
    sample = read_sample(
        next(folder.glob("*_ndvi.tif")), next(folder.glob("*_lulc.tif")), name=folder.name
    )
    assert sample.labels is not None
    known = sample.labels != IGNORED
    return sample.series[known], sample.labels[known]


def test_the_model_is_described_as_the_graph_is(trained: Ran) -> None:
    description, session = trained.description, trained.session()

    assert [entry.name for entry in session.get_inputs()] == ["series"]
    assert session.get_inputs()[0].shape == ["batch", DATES, 1]
    assert session.get_outputs()[0].shape == ["batch", 2]
    assert description.inputs[0].shape == [-1, DATES, 1]
    assert description.outputs[0].shape == [-1, 2]
    assert [(entry.value, entry.name) for entry in description.classes] == [
        (2, "forest"),
        (3, "Bare soil"),
    ]
    assert description.hyperparameters["epochs"] == 3
    assert description.hyperparameters["kernel_size"] == 5
    assert description.parity.passed
    assert description.parity.max_absolute_error <= description.parity.tolerance
    assert "+" not in description.framework_version


@pytest.mark.parametrize("size", [1, 2, 7, 63])
def test_the_batch_may_have_any_size(trained: Ran, size: int) -> None:
    series, _ = _chip_pixels(trained, "test")

    probabilities = trained.session().run(None, {"series": series[:size]})[0]

    assert probabilities.shape == (size, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_pixels_without_any_observation_get_probabilities(trained: Ran) -> None:
    nothing = np.full((3, DATES, 1), np.nan, dtype=np.float32)
    probabilities = trained.session().run(None, {"series": nothing})[0]
    assert np.isfinite(probabilities).all()


def test_missing_dates_are_interpolated_in_the_graph(trained: Ran) -> None:
    """A gap on a straight line changes nothing; what the line lacks would."""
    line = np.linspace(0.2, 0.8, DATES, dtype=np.float32)[None, :, None]
    gap = line.copy()
    gap[:, 3:9] = np.nan
    session = trained.session()

    whole = session.run(None, {"series": line})[0]
    filled = session.run(None, {"series": gap})[0]

    np.testing.assert_allclose(filled, whole, atol=1e-5)
    gap[:, 3] = 0.9
    assert np.abs(session.run(None, {"series": gap})[0] - whole).max() > 1e-4


def test_the_reported_scores_are_those_of_the_onnx_file(trained: Ran) -> None:
    series, labels = _chip_pixels(trained, "test")
    values = np.array([entry.value for entry in trained.description.classes])
    predicted = values[trained.session().run(None, {"series": series})[0].argmax(axis=1)]
    reported = last_values(read_metrics(trained.folders.metrics))

    assert reported["test_accuracy"] == pytest.approx(float((predicted == labels).mean()))
    assert reported["test_accuracy"] > reported["test_baseline_accuracy"]
    assert reported["test_baseline_balanced_accuracy"] == 0.5


def test_every_epoch_reports_and_the_last_values_are_the_models(trained: Ran) -> None:
    points = read_metrics(trained.folders.metrics)
    by_step = {
        step: {point.name: point.value for point in points if point.step == step}
        for step in {point.step for point in points}
    }
    expected = {
        "train_loss",
        "val_loss",
        "val_accuracy",
        "val_balanced_accuracy",
        "val_macro_f1",
        "val_f1_forest",
        "val_f1_bare_soil",
    }
    assert set(by_step) == {1, 2, 3}
    for epoch in (1, 2, 3):
        assert expected <= set(by_step[epoch])
    best = max((1, 2, 3), key=lambda epoch: by_step[epoch]["val_balanced_accuracy"])
    final = last_values(points)
    assert final["best_epoch"] == best
    for name in ("val_balanced_accuracy", "train_loss"):
        values = [point.value for point in points if (point.name, point.step) == (name, best)]
        assert values == [final[name]] * 2
    lines = trained.folders.metrics.read_text().splitlines()
    assert json.loads(lines[-1]) == {"progress": 1.0}


def test_the_evaluation_holds_the_confusion_matrix(trained: Ran) -> None:
    evaluation = json.loads((trained.folders.output_data / "evaluation.json").read_text())

    table = evaluation["confusion"]["test"]
    assert table["classes"] == ["forest", "Bare soil"]
    assert np.sum(table["counts"]) == 63
    assert evaluation["held_out_training_samples"] == []


def test_the_log_is_the_recipes_own(trained: Ran) -> None:
    assert "Warning" not in trained.log
    assert "torchvision" not in trained.log


def test_the_native_weights_load(trained: Ran) -> None:
    state = torch.load(trained.folders.model / "model.pt", weights_only=True)
    assert {"mean", "deviation"} <= set(state)


def test_the_onnx_file_says_nothing_of_the_machine(trained: Ran) -> None:
    path = trained.folders.model / "model.onnx"
    content = path.read_bytes()
    assert list(path.parent.glob("*.data")) == []
    assert b"network.py" not in content
    assert str(Path(torch.__file__).parents[1]).encode() not in content
    assert all(not node.metadata_props for node in onnx.load(path).graph.node)


def test_the_same_seed_gives_the_same_model(
    store: FolderStore, chips: list[Chip], document: MakeDocument, tmp_path: Path
) -> None:
    job = document([store_dataset(store, chips)])
    first, second = (run_recipe(store, job, tmp_path / name) for name in ("one", "two"))

    weights = [
        torch.load(ran.folders.model / "model.pt", weights_only=True) for ran in (first, second)
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_without_validation_whole_samples_are_held_out(
    store: FolderStore, document: MakeDocument, tmp_path: Path
) -> None:
    chips = [write_chip(tmp_path, f"chip-{seed}", "train", seed=seed) for seed in range(3)]
    ran = run_recipe(store, document([store_dataset(store, chips)]), tmp_path / "work")

    assert ran.code == 0, ran.log
    evaluation = json.loads((ran.folders.output_data / "evaluation.json").read_text())
    assert len(evaluation["held_out_training_samples"]) == 1
    assert "there is no validation split" in ran.log
    assert np.sum(evaluation["confusion"]["validation"]["counts"]) == 63
    assert "test" not in evaluation["confusion"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"hyperparameters": {"epochs": 3, "learning_rate": 1e30}},
            "DivergedError: the .* loss is .* learning_rate",
        ),
        ({"objective_metric": "val_f1_water"}, "RecipeError: .*'val_f1_water' is none of"),
    ],
)
def test_what_fails_ends_with_a_reason(
    store: FolderStore,
    chips: list[Chip],
    document: MakeDocument,
    tmp_path: Path,
    changes: dict[str, Any],
    reason: str,
) -> None:
    ran = run_recipe(store, document([store_dataset(store, chips)], **changes), tmp_path / "work")

    assert ran.code == 1
    line = find_failure(ran.code, ran.folders.log, 0).reason
    assert "\n" not in line
    assert re.search(reason, line), line
    assert not (ran.folders.model / "model.json").exists()


def test_samples_with_other_dates_are_named(
    store: FolderStore, document: MakeDocument, tmp_path: Path
) -> None:
    chips = [
        write_chip(tmp_path, "whole", "train", seed=1),
        write_chip(tmp_path, "short", "validation", seed=2, dates=DATES - 1),
    ]
    ran = run_recipe(store, document([store_dataset(store, chips)]), tmp_path / "work")

    assert ran.code == 1
    assert "sample short has 11 dates" in find_failure(ran.code, ran.folders.log, 0).reason


def test_a_label_that_is_no_class_is_named(
    store: FolderStore, chips: list[Chip], document: MakeDocument, tmp_path: Path
) -> None:
    dataset = store_dataset(store, chips, classes=[*CLASSES[:2], {"value": 4, "name": "water"}])
    ran = run_recipe(store, document([dataset]), tmp_path / "work")

    assert ran.code == 1
    assert "label value 3" in find_failure(ran.code, ran.folders.log, 0).reason


def test_gaps_are_filled_as_numpy_interpolates() -> None:
    random = np.random.default_rng(0)
    series = random.normal(size=(200, 1, 17)).astype(np.float32)
    series[random.random(series.shape) < 0.6] = np.nan
    series[0] = np.nan
    filled = GapFilling()(torch.from_numpy(series)).numpy()

    dates = np.arange(17)
    for before, after in zip(series[:, 0], filled[:, 0], strict=True):
        seen = ~np.isnan(before)
        expected = np.interp(dates, dates[seen], before[seen]) if seen.any() else np.zeros(17)
        np.testing.assert_allclose(after, expected, atol=1e-5)


def test_scores_are_those_of_the_definitions() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    predictions = np.array([0, 0, 0, 1, 1, 0, 0])
    matrix = confusion_matrix(labels, predictions, 4)
    found = scores(matrix, ["a", "b", "c", "d"])

    assert found["accuracy"] == pytest.approx(4 / 7)
    assert found["balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)
    assert found["f1_a"] == pytest.approx(2 * 3 / (4 + 5))
    assert found["macro_f1"] == pytest.approx((6 / 9 + 1 / 2 + 0) / 3)
    assert "f1_d" not in found
    assert baseline_scores(matrix, 0) == {
        "baseline_accuracy": pytest.approx(4 / 7),
        "baseline_balanced_accuracy": pytest.approx(1 / 3),
    }
    assert all(math.isfinite(value) for value in found.values())
