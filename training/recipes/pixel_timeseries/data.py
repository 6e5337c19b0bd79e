"""The pixels that the recipe trains, validates and tests on."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mlops.datasets.pixels import (
    IGNORED,
    PixelDataError,
    PixelSample,
    check_alike,
    ignored_values,
    read_sample,
)
from mlops.items.model_description import ModelClass
from mlops.jobs import SPLITS, Split
from training.recipes.inputs import RecipeError, RecipeInputs, SampleFiles

HELD_OUT_FRACTION = 0.2


@dataclass(frozen=True)
class Pixels:
    """Labelled pixels: ``series`` ``[pixels, time, bands]`` with NaN, ``labels`` class indices."""

    series: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class PixelData:
    """All pixels of a run. ``test`` is None where there are no test samples."""

    train: Pixels
    validation: Pixels
    test: Pixels | None
    classes: tuple[ModelClass, ...]
    """In the order of the model's output."""
    held_out: tuple[str, ...]
    """Training samples that serve as validation, because there is no validation split."""

    @property
    def names(self) -> list[str]:
        """The names of the classes."""
        return [entry.name for entry in self.classes]


def load(inputs: RecipeInputs, *, seed: int, max_pixels: int | None) -> PixelData:
    """Read all samples.

    Without a validation split a fifth of the training samples (whole samples, drawn with ``seed``)
    is kept out of training for it: neighbouring pixels are too alike to be held out one by one.
    """
    ignored = ignored_values(inputs.classes)
    samples = _assign(inputs, seed)
    files = [entry for split in SPLITS for entry in samples[split]]
    with ThreadPoolExecutor(max_workers=min(16, 4 * (os.cpu_count() or 1))) as pool:
        read = list(pool.map(lambda entry: _read(entry, ignored), files))
    check_alike(read)
    classes = _classes(inputs, read)
    if len(classes) < 2:
        raise RecipeError("the labels know fewer than two classes: there is nothing to tell apart")
    by_split: dict[Split, list[PixelSample]] = {split: [] for split in SPLITS}
    remaining = iter(read)
    for split in SPLITS:
        by_split[split] = [next(remaining) for _ in samples[split]]
    train = _drawn(_pixels(by_split["train"], classes, "training"), max_pixels, seed)
    held_out = () if inputs.split("validation") else tuple(s.id for s in samples["validation"])
    return PixelData(
        train=train,
        validation=_pixels(by_split["validation"], classes, "validation"),
        test=_pixels(by_split["test"], classes, "test") if by_split["test"] else None,
        classes=classes,
        held_out=held_out,
    )


def _assign(inputs: RecipeInputs, seed: int) -> dict[Split, list[SampleFiles]]:
    samples = {split: inputs.split(split) for split in SPLITS}
    train = samples["train"]
    if samples["validation"]:
        return samples
    if len(train) < 2:
        raise RecipeError(
            "there is no validation split, and a single training sample cannot be divided: "
            "push the dataset with a split named 'validation', or with more samples"
        )
    order = np.random.default_rng(seed).permutation(len(train))
    kept_out = set(order[: max(1, round(len(train) * HELD_OUT_FRACTION))].tolist())
    samples["validation"] = [
        replace(entry, split="validation") for i, entry in enumerate(train) if i in kept_out
    ]
    samples["train"] = [entry for i, entry in enumerate(train) if i not in kept_out]
    return samples


def _read(entry: SampleFiles, ignored: frozenset[int]) -> PixelSample:
    if entry.labels is None:
        raise PixelDataError(
            f"sample {entry.id} of {entry.dataset} has no labels: every {entry.split} sample needs "
            "a label raster beside its series"
        )
    return read_sample(entry.data, entry.labels, name=entry.id, ignored=ignored)


def _classes(inputs: RecipeInputs, samples: Sequence[PixelSample]) -> tuple[ModelClass, ...]:
    """The dataset's classes, or the values that occur in the labels where it names none."""
    ignored = ignored_values(inputs.classes)
    named = [entry for entry in inputs.classes if int(entry["value"]) not in ignored]
    if named:
        return tuple(
            ModelClass(
                value=int(entry["value"]),
                name=str(entry.get("name") or f"class_{entry['value']}"),
                color_hint=entry.get("color_hint"),
            )
            for entry in named
        )
    values = np.unique(np.concatenate([_labels(sample) for sample in samples]))
    return tuple(
        ModelClass(value=int(value), name=f"class_{value}") for value in values if value != IGNORED
    )


def _pixels(samples: Sequence[PixelSample], classes: Sequence[ModelClass], what: str) -> Pixels:
    """The labelled pixels of ``samples``, their labels as indices into ``classes``."""
    index = {entry.value: position for position, entry in enumerate(classes)}
    series, labels = [], []
    for sample in samples:
        values = _labels(sample)
        known = values != IGNORED
        unknown = sorted(set(np.unique(values[known]).tolist()) - set(index))
        if unknown:
            raise PixelDataError(
                f"sample {sample.name} has the label value {unknown[0]}, which is none of the "
                f"dataset's classes ({', '.join(map(str, sorted(index)))})"
            )
        series.append(sample.series[known])
        labels.append(np.array([index[value] for value in values[known].tolist()], dtype=np.int64))
    pixels = Pixels(np.concatenate(series), np.concatenate(labels))
    if len(pixels) < 2:
        raise PixelDataError(
            f"the {what} samples have {len(pixels)} labelled pixels: at least 2 are needed"
        )
    return pixels


def _labels(sample: PixelSample) -> npt.NDArray[np.int64]:
    assert sample.labels is not None
    return sample.labels


def _drawn(pixels: Pixels, most: int | None, seed: int) -> Pixels:
    if most is None or len(pixels) <= most:
        return pixels
    chosen = np.sort(np.random.default_rng(seed).permutation(len(pixels))[: max(most, 2)])
    return Pixels(pixels.series[chosen], pixels.labels[chosen])
