"""Scores of predictions, reckoned apart from the training code so that one checks the other."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """Accuracy; balanced accuracy (mean recall of the classes present); F1 by class value."""

    pixels: int
    accuracy: float
    balanced_accuracy: float
    f1: dict[int, float]
    majority: float
    """Accuracy of always saying the most frequent class."""


def score(truth: Integers, predicted: Integers) -> Scores:
    """Score predicted class values against true ones."""
    present, counts = np.unique(truth, return_counts=True)
    recalls, f1 = [], {}
    for value in present:
        hits = int(np.sum((truth == value) & (predicted == value)))
        actual, claimed = int(np.sum(truth == value)), int(np.sum(predicted == value))
        recalls.append(hits / actual)
        f1[int(value)] = 2 * hits / (actual + claimed)
    return Scores(
        pixels=int(truth.size),
        accuracy=float(np.mean(truth == predicted)),
        balanced_accuracy=float(np.mean(recalls)),
        f1=f1,
        majority=float(counts.max() / truth.size),
    )
