"""Running a pulled model on the held-out samples of the dataset version it was trained on.

Nothing is taken from this machine's folders: the ONNX file comes through the model Item's asset,
the samples through the dataset Item's manifest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from cli.demo.scores import Scores, score
from mlops.datasets.manifest import ManifestSample
from mlops.datasets.pixels import IGNORED, PixelSample, ignored_values, read_sample
from mlops.sdk import Client, DatasetVersion, ModelVersion

OnSample = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """Scores of an ONNX model on test samples, and the names of its classes by value."""

    samples: int
    scores: Scores
    class_names: dict[int, str]


def evaluate(
    client: Client,
    model: ModelVersion,
    onnx_file: Path,
    dataset: DatasetVersion,
    folder: Path,
    on_step: OnSample,
) -> Evaluation:
    """Predict the pixels of the split ``test`` with ONNX Runtime and score them."""
    samples = client.data.manifest(dataset, folder).of_split("test")
    ignored = ignored_values(dataset.classes)
    read = []
    for number, sample in enumerate(samples, start=1):
        read.append(_download(client, dataset, sample, folder, ignored))
        on_step("samples", number, len(samples))
    classes = model.item["properties"]["mlm:output"][0]["classification:classes"]
    values = np.array([entry["value"] for entry in classes], dtype=np.int64)
    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    truth, predicted = [], []
    for number, pixels in enumerate(read, start=1):
        assert pixels.labels is not None
        (probabilities,) = session.run(None, {session.get_inputs()[0].name: pixels.series})
        labelled = pixels.labels != IGNORED
        truth.append(pixels.labels[labelled])
        predicted.append(values[np.argmax(probabilities, axis=1)][labelled])
        on_step("predicting", number, len(read))
    names = {entry["value"]: entry["name"] for entry in classes}
    return Evaluation(len(read), score(np.concatenate(truth), np.concatenate(predicted)), names)


def _download(
    client: Client,
    dataset: DatasetVersion,
    sample: ManifestSample,
    folder: Path,
    ignored: frozenset[int],
) -> PixelSample:
    assert sample.labels is not None
    data, labels = folder / f"{sample.id}.data.tif", folder / f"{sample.id}.labels.tif"
    client.data.download_file(dataset, sample.data, data)
    client.data.download_file(dataset, sample.labels, labels)
    return read_sample(data, labels, name=sample.id, ignored=ignored)
