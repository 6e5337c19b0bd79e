"""The recipe from its inputs to the model that it hands over."""

import os
import platform
import time
from typing import Literal

import numpy as np
import torch

from mlops.items.model_description import (
    DESCRIPTION_FILE,
    ONNX_FILE,
    ModelDescription,
    Parity,
    TensorDescription,
)
from mlops.recipes import PixelTimeSeriesHyperparameters
from training.contract import cpu_count
from training.environment import installed_versions
from training.metrics_file import MetricsWriter
from training.onnx_export import Exported, check_parity, export_onnx, parameter_count
from training.recipes.inputs import RecipeInputs, write_json
from training.recipes.pixel_timeseries.data import PixelData, load
from training.recipes.pixel_timeseries.network import Probabilities, TemporalCnn
from training.recipes.pixel_timeseries.scores import Confusion, as_table, baseline_scores
from training.recipes.pixel_timeseries.training import (
    Trained,
    class_weights,
    evaluate,
    prepare,
    train,
)
from training.recipes.processes import Processes
from training.recipes.resuming import CheckpointFile

NATIVE_FILE = "model.pt"
EVALUATION_FILE = "evaluation.json"
_PARITY_SAMPLES = 2048
# The epochs' part of the whole; the rest is evaluation and export.
_EPOCHS_PART = 0.95


def run(
    inputs: RecipeInputs,
    options: PixelTimeSeriesHyperparameters,
    processes: Processes = Processes(),  # noqa: B008 - it is immutable
) -> None:
    """Train, evaluate, export and hand over the model.

    Deterministic for one seed, machine and number of processes.
    """
    torch.set_num_threads(max(1, cpu_count() // processes.local_count))
    torch.use_deterministic_algorithms(True)
    device = processes.device()
    began = time.monotonic()
    data = load(inputs, seed=options.seed, max_pixels=options.max_pixels)
    if processes.is_first:
        _say(_summary(data, device, processes, time.monotonic() - began))
    with MetricsWriter(inputs.metrics_file) as metrics:
        with processes.connected(device):
            trained = _train(inputs, options, data, device, processes, metrics)
        if trained is None:
            return
        final, matrices = _evaluate(trained, data, options, device)
        # Said once more: the last values of a run are those of the model that it hands over.
        metrics.log(trained.best_epoch, {**trained.metrics, **final}, progress=_EPOCHS_PART)
        _write_evaluation(inputs, data, trained, final, matrices)
        _hand_over(inputs, options, data, trained.network, device)
        metrics.log(options.epochs, {}, progress=1.0)


def _train(
    inputs: RecipeInputs,
    options: PixelTimeSeriesHyperparameters,
    data: PixelData,
    device: torch.device,
    processes: Processes,
    metrics: MetricsWriter,
) -> Trained | None:
    def after_epoch(epoch: int, values: dict[str, float], is_best: bool) -> None:
        metrics.log(epoch, values, progress=_EPOCHS_PART * epoch / options.epochs)
        shown = ("train_loss", "val_loss", "val_accuracy", "val_balanced_accuracy", "val_macro_f1")
        listed = "  ".join(f"{name} {values[name]:.4f}" for name in shown)
        _say(f"epoch {epoch:>3}/{options.epochs}  {listed}{'  best' if is_best else ''}")

    # What decides the outcome beside the code: only a checkpoint of the very same goes on.
    training = {
        "options": options.model_dump(),
        "objective": [inputs.metric, inputs.goal],
        "samples": [sample.id for sample in inputs.samples],
        "pixels": [len(data.train), len(data.validation)],
        "classes": data.names,
        "processes": processes.count,
    }
    file = CheckpointFile(inputs.checkpoint_folder, training)
    found = file.load() if processes.is_first else None
    if found is not None:
        _say(f"going on after epoch {found.epoch}, from the checkpoint")
    return train(
        data,
        options,
        metric=inputs.metric,
        goal=inputs.goal,
        device=device,
        processes=processes,
        checkpoint=found,
        save=file.save,
        after_epoch=after_epoch,
    )


def _evaluate(
    trained: Trained,
    data: PixelData,
    options: PixelTimeSeriesHyperparameters,
    device: torch.device,
) -> tuple[dict[str, float], dict[str, Confusion]]:
    """Scores of the best epoch on the test split, and of the majority class beside them."""
    majority = int(np.bincount(data.train.labels, minlength=len(data.classes)).argmax())
    weights = class_weights(data.train.labels, len(data.classes)) if options.class_weights else None
    splits = {"validation": ("val_", data.validation)}
    if data.test is not None:
        splits["test"] = ("test_", data.test)
    final: dict[str, float] = {"best_epoch": float(trained.best_epoch)}
    matrices = {}
    for split, (prefix, pixels) in splits.items():
        prepared = prepare(trained.network, pixels, device)
        values, matrix = evaluate(trained.network, prepared, weights, data.names, prefix)
        matrices[split] = matrix
        baseline = baseline_scores(matrix, majority)
        final |= values | {f"{prefix}{name}": value for name, value in baseline.items()}
        _say(
            f"{split}: accuracy {values[f'{prefix}accuracy']:.4f} "
            f"(always {data.names[majority]}: {baseline['baseline_accuracy']:.4f}), "
            f"balanced {values[f'{prefix}balanced_accuracy']:.4f} "
            f"({baseline['baseline_balanced_accuracy']:.4f})"
        )
    return final, matrices


def _write_evaluation(
    inputs: RecipeInputs,
    data: PixelData,
    trained: Trained,
    final: dict[str, float],
    matrices: dict[str, Confusion],
) -> None:
    write_json(
        inputs.output_folder / EVALUATION_FILE,
        {
            "best_epoch": trained.best_epoch,
            "objective": {"metric": inputs.metric, "goal": inputs.goal},
            "held_out_training_samples": list(data.held_out),
            "metrics": final,
            "confusion": {split: as_table(m, data.names) for split, m in matrices.items()},
        },
    )


def _hand_over(
    inputs: RecipeInputs,
    options: PixelTimeSeriesHyperparameters,
    data: PixelData,
    network: TemporalCnn,
    device: torch.device,
) -> None:
    """Write ``model.onnx``, the native weights and ``model.json``; the last only if both agree."""
    began = time.monotonic()
    model = Probabilities(network).cpu().eval()
    held_out = (data.test or data.validation).series
    chosen = np.linspace(0, len(held_out) - 1, min(_PARITY_SAMPLES, len(held_out))).astype(int)
    exported = export_onnx(
        model,
        torch.from_numpy(held_out[:2]),
        inputs.model_folder / ONNX_FILE,
        input_name="series",
        output_name="probabilities",
        dynamic_axes={0: "batch"},
    )
    parity = check_parity(exported, model, held_out[chosen])
    torch.save(network.state_dict(), inputs.model_folder / NATIVE_FILE)
    description = _describe(options, data, network, exported, parity, device)
    write_json(inputs.model_folder / DESCRIPTION_FILE, description.model_dump(mode="json"))
    _say(
        f"exported to ONNX (opset {exported.opset}) in {time.monotonic() - began:.1f} s; differs "
        f"from PyTorch by at most {parity.max_absolute_error:.2g} on {parity.samples} pixels"
    )


def _describe(
    options: PixelTimeSeriesHyperparameters,
    data: PixelData,
    network: TemporalCnn,
    exported: Exported,
    parity: Parity,
    device: torch.device,
) -> ModelDescription:
    _, dates, bands = data.train.series.shape
    names = ", ".join(data.names)
    return ModelDescription(
        architecture="TempCNN",
        learning_approach="supervised",
        prediction_type="classification",
        framework="PyTorch",
        framework_version=torch.__version__.split("+")[0],
        total_parameters=parameter_count(network),
        inputs=[
            TensorDescription(
                name="series",
                shape=[-1, dates, bands],
                dim_order=["batch", "time", "bands"],
                description=(
                    f"A pixel's {dates} observations in the order and the units of the training "
                    "data, NaN where one is missing. The graph normalises and fills gaps itself."
                ),
            )
        ],
        outputs=[
            TensorDescription(
                name="probabilities",
                shape=[-1, len(data.classes)],
                dim_order=["batch", "class"],
                description=f"The probability of each class, in the order {names}.",
            )
        ],
        classes=list(data.classes),
        hyperparameters=options.model_dump(exclude_none=True),
        opset=exported.opset,
        exporter=exported.exporter,
        parity=parity,
        accelerator=_accelerator(device),
        software=installed_versions(("torch", "onnx", "onnxruntime", "onnxscript", "numpy")),
        native_file=NATIVE_FILE,
    )


def _accelerator(device: torch.device) -> Literal["amd64", "cuda", "macos-arm"] | None:
    """What the model was trained on, in the words of the MLM extension."""
    if device.type == "cuda":
        return "cuda"
    if platform.machine() in ("x86_64", "AMD64"):
        return "amd64"
    return "macos-arm" if platform.system() == "Darwin" else None


def _summary(data: PixelData, device: torch.device, processes: Processes, seconds: float) -> str:
    parts = [f"{len(data.train)} training", f"{len(data.validation)} validation"]
    if data.test is not None:
        parts.append(f"{len(data.test)} test")
    missing = float(np.isnan(data.train.series).mean())
    text = (
        f"read {', '.join(parts)} pixels x {data.train.series.shape[1]} dates in {seconds:.1f} s; "
        f"{missing:.0%} of the observations are missing; classes {', '.join(data.names)}; "
        f"training on {device.type} with {cpu_count()} cores"
    )
    if processes.count > 1:
        text += f" in each of {processes.count} processes, {processes.local_count} a host"
    if data.held_out:
        text += (
            "\nthere is no validation split: kept out of training for it, by the seed, are "
            f"{', '.join(data.held_out)}"
        )
    absent = sorted(
        name for index, name in enumerate(data.names) if not (data.train.labels == index).any()
    )
    if absent:
        text += f"\nthe training pixels hold no {', '.join(absent)}: it will not be predicted"
    return text


def _say(text: str) -> None:
    os.write(1, f"{text}\n".encode())
