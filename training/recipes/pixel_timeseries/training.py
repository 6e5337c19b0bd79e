"""Training the network: epochs, scores after each, and the best checkpoint."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from mlops.recipes import PixelTimeSeriesHyperparameters
from training.recipes.inputs import RecipeError
from training.recipes.pixel_timeseries.data import PixelData, Pixels
from training.recipes.pixel_timeseries.network import TemporalCnn
from training.recipes.pixel_timeseries.scores import Confusion, confusion_matrix, scores
from training.recipes.processes import Processes, epoch_seed
from training.recipes.resuming import Checkpoint

_EVALUATION_BATCH = 4096

AfterEpoch = Callable[[int, dict[str, float], bool], None]
"""Called with epoch (from 1), its metrics, and whether it is the best so far."""


class DivergedError(Exception):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class Prepared:
    """Pixels on the device, normalised and filled: ``[pixels, bands, time]``; class indices."""

    series: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Trained:
    """The network of the best epoch."""

    network: TemporalCnn
    best_epoch: int
    metrics: dict[str, float]
    """That epoch's."""


def make_network(data: PixelData, options: PixelTimeSeriesHyperparameters) -> TemporalCnn:
    """A fresh network, normalising by the statistics of the training pixels."""
    mean, deviation = statistics(data.train.series)
    return TemporalCnn(
        dates=data.train.series.shape[1],
        classes=len(data.classes),
        mean=mean,
        deviation=deviation,
        filters=options.filters,
        kernel_size=options.kernel_size,
        dense_units=options.dense_units,
        dropout=options.dropout,
    )


def statistics(series: npt.NDArray[np.float32]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each band over all pixels and dates; NaN does not count."""
    seen = ~np.isnan(series)
    count = np.maximum(seen.sum(axis=(0, 1)), 1)
    values = np.where(seen, series, 0).astype(np.float64)
    mean = values.sum(axis=(0, 1)) / count
    deviation = np.sqrt((np.where(seen, values - mean, 0) ** 2).sum(axis=(0, 1)) / count)
    deviation[deviation == 0] = 1
    return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(deviation.astype(np.float32))


def class_weights(labels: npt.NDArray[np.int64], classes: int) -> Tensor:
    """The loss's weight of each class: the inverse square root of its frequency, 1 in the mean.

    The inverse frequency itself makes the network guess rare classes everywhere. A class that does
    not occur has weight 0.
    """
    counts = np.bincount(labels, minlength=classes)
    raw = np.where(counts > 0, 1 / np.sqrt(np.maximum(counts, 1)), 0)
    return torch.from_numpy((raw * counts.sum() / (raw * counts).sum()).astype(np.float32))


def train(
    data: PixelData,
    options: PixelTimeSeriesHyperparameters,
    *,
    metric: str,
    goal: Literal["maximize", "minimize"],
    device: torch.device,
    processes: Processes,
    checkpoint: Checkpoint | None,
    save: Callable[[Checkpoint], None],
    after_epoch: AfterEpoch,
) -> Trained | None:
    """Train for all epochs and return the network of the epoch whose ``metric`` was best.

    Goes on from ``checkpoint`` where there is one, with the very same outcome, and gives one to
    ``save`` after each epoch. Only the first of several processes evaluates and has an outcome.

    Raises :class:`DivergedError` when the loss is not finite, and :class:`RecipeError` when no
    metric has the objective's name.
    """
    torch.manual_seed(options.seed)
    network = make_network(data, options).to(device)
    weights = class_weights(data.train.labels, len(data.classes)) if options.class_weights else None
    step = _Step(network, prepare(network, data.train, device), weights, options, processes)
    # What every process begins with is what the first one has.
    checkpoint = cast(Checkpoint | None, processes.agree(checkpoint))
    if checkpoint is not None:
        step.resume(checkpoint)
    validation = prepare(network, data.validation, device) if processes.is_first else None
    for epoch in range(checkpoint.epoch + 1 if checkpoint else 1, options.epochs + 1):
        loss = step.epoch(epoch)
        if validation is None:
            continue
        metrics = {"train_loss": loss}
        metrics |= evaluate(network, validation, weights, data.names, "val_")[0]
        _check_finite(metrics["val_loss"], "validation", epoch, options)
        if metric not in metrics:
            raise RecipeError(
                f"the objective's metric {metric!r} is none of this run's metrics: "
                f"use one of {', '.join(metrics)}"
            )
        previous = None if checkpoint is None else checkpoint.best_metrics[metric]
        is_best = previous is None or _better(metrics[metric], previous, goal)
        checkpoint = step.checkpoint(epoch, metrics, None if is_best else checkpoint)
        # Told first: an epoch that is not in the checkpoint is trained and told again.
        after_epoch(epoch, metrics, is_best)
        save(checkpoint)
    if validation is None:
        return None
    assert checkpoint is not None
    network.load_state_dict(checkpoint.best_network)
    return Trained(network, checkpoint.best_epoch, checkpoint.best_metrics)


def prepare(network: TemporalCnn, pixels: Pixels, device: torch.device) -> Prepared:
    """Normalise and fill once what every epoch uses."""
    with torch.no_grad():
        parts = [
            network.prepare(part.to(device))
            for part in _parts(torch.from_numpy(pixels.series), _EVALUATION_BATCH)
        ]
    return Prepared(torch.cat(parts), torch.from_numpy(pixels.labels).to(device))


def evaluate(
    network: TemporalCnn,
    pixels: Prepared,
    weights: Tensor | None,
    names: list[str],
    prefix: str,
) -> tuple[dict[str, float], Confusion]:
    """Loss and scores under names with ``prefix``, and the confusion matrix."""
    network.eval()
    with torch.no_grad():
        logits = torch.cat(
            [network.classify(part) for part in _parts(pixels.series, _EVALUATION_BATCH)]
        )
    weights = None if weights is None else weights.to(logits.device)
    # A split may hold only classes of weight 0, which have no weighted mean.
    loss = functional.cross_entropy(logits, pixels.labels, weight=weights, reduction="sum")
    mass = len(pixels.labels) if weights is None else float(weights[pixels.labels].sum())
    matrix = confusion_matrix(
        pixels.labels.cpu().numpy(), logits.argmax(dim=1).cpu().numpy(), len(names)
    )
    values = {"loss": float(loss) / mass if mass else 0.0} | scores(matrix, names)
    return {f"{prefix}{name}": value for name, value in values.items()}, matrix


class _Step:
    """The optimiser's side of an epoch."""

    def __init__(
        self,
        network: TemporalCnn,
        pixels: Prepared,
        weights: Tensor | None,
        options: PixelTimeSeriesHyperparameters,
        processes: Processes,
    ) -> None:
        self._network, self._pixels, self._options = network, pixels, options
        self._processes = processes
        self._weights = None if weights is None else weights.to(pixels.labels.device)
        self._optimiser = torch.optim.Adam(
            network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from the end of an earlier epoch."""
        self._network.load_state_dict(checkpoint.network)
        self._optimiser.load_state_dict(checkpoint.optimiser)

    def checkpoint(
        self, epoch: int, metrics: dict[str, float], best: Checkpoint | None
    ) -> Checkpoint:
        """The state after ``epoch``, whose network is the best where there is no better one."""
        state = {name: value.cpu().clone() for name, value in self._network.state_dict().items()}
        return Checkpoint(
            epoch=epoch,
            network=state,
            optimiser=self._optimiser.state_dict(),
            best_epoch=epoch if best is None else best.best_epoch,
            best_metrics=metrics if best is None else best.best_metrics,
            best_network=state if best is None else best.best_network,
        )

    def epoch(self, epoch: int) -> float:
        """Train on every pixel once; the mean loss."""
        network, labels, processes = self._network, self._pixels.labels, self._processes
        network.train()
        # On the CPU, so that the same seed shuffles alike on every device and in every process.
        shuffle = torch.Generator().manual_seed(epoch_seed(self._options.seed, epoch))
        order = torch.randperm(len(labels), generator=shuffle)
        torch.manual_seed(epoch_seed(self._options.seed, epoch, processes.rank))
        total, seen = 0.0, 0
        for chosen in _parts(order, self._options.batch_size):
            # Batch normalisation has no statistics of a single pixel.
            if len(chosen) < 2 * processes.count:
                continue
            self._optimiser.zero_grad()
            loss = self._loss(chosen.to(labels.device))
            torch.autograd.backward(loss)
            value = float(processes.sum_step(network.parameters(), loss.detach()))
            _check_finite(value, "training", epoch, self._options)
            self._optimiser.step()
            total, seen = total + value * len(chosen), seen + len(chosen)
        # Each process saw other pixels: the statistics of the whole are their mean.
        processes.average(network.buffers())
        return total / max(seen, 1)

    def _loss(self, batch: Tensor) -> Tensor:
        """This process's part of the batch's weighted mean loss; the parts add up to the whole."""
        labels, weights = self._pixels.labels, self._weights
        mass = len(batch) if weights is None else weights[labels[batch]].sum()
        share = self._processes.share(batch)
        logits = self._network.classify(self._pixels.series[share])
        return functional.cross_entropy(logits, labels[share], weights, reduction="sum") / mass


def _parts(tensor: Tensor, size: int) -> Iterator[Tensor]:
    for start in range(0, len(tensor), size):
        yield tensor[start : start + size]


def _check_finite(
    loss: float, what: str, epoch: int, options: PixelTimeSeriesHyperparameters
) -> None:
    if not math.isfinite(loss):
        raise DivergedError(
            f"the {what} loss is {loss} in epoch {epoch}: the training diverged. "
            f"Lower learning_rate (it is {options.learning_rate:g})."
        )


def _better(value: float, best: float, goal: Literal["maximize", "minimize"]) -> bool:
    return value > best if goal == "maximize" else value < best
