"""Scores of a classifier from its confusion matrix."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Confusion = npt.NDArray[np.int64]


def confusion_matrix(
    labels: npt.NDArray[np.int64], predictions: npt.NDArray[np.int64], classes: int
) -> Confusion:
    """``[classes, classes]``: rows are the true class, columns the predicted one."""
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (labels, predictions), 1)
    return matrix


def class_slug(name: str) -> str:
    """A class's name as a part of a metric's name."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "class"


def scores(matrix: Confusion, names: Sequence[str]) -> dict[str, float]:
    """Accuracy, balanced accuracy, macro F1 and F1 of each class.

    As scikit-learn defines them: balanced accuracy is the mean recall of the classes that occur in
    the labels; macro F1 is the mean over the classes that occur in labels or predictions. A class
    that does not occur in the labels has no F1 of its own.
    """
    hits, true, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    recall = hits / np.maximum(true, 1)
    f1 = 2 * hits / np.maximum(true + predicted, 1)
    result = {
        "accuracy": float(hits.sum() / max(int(matrix.sum()), 1)),
        "balanced_accuracy": _mean(recall[true > 0]),
        "macro_f1": _mean(f1[true + predicted > 0]),
    }
    for index, name in enumerate(names):
        if true[index] > 0:
            result[f"f1_{class_slug(name)}"] = float(f1[index])
    return result


def baseline_scores(matrix: Confusion, majority: int) -> dict[str, float]:
    """Accuracy and balanced accuracy of always saying ``majority``, on the same labels."""
    true = matrix.sum(axis=1)
    present = int((true > 0).sum())
    return {
        "baseline_accuracy": float(true[majority] / max(int(true.sum()), 1)),
        "baseline_balanced_accuracy": float(true[majority] > 0) / max(present, 1),
    }


def as_table(matrix: Confusion, names: Sequence[str]) -> dict[str, Any]:
    """The matrix as JSON."""
    return {
        "classes": list(names),
        "rows": "true",
        "columns": "predicted",
        "counts": matrix.tolist(),
    }


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else 0.0
