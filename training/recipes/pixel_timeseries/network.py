"""The temporal CNN of Pelletier, Webb and Petitjean (2019), with what it needs of its inputs.

"Temporal Convolutional Neural Network for the Classification of Satellite Image Time Series",
Remote Sensing 11(5), 523. Three convolutions over time, one dense layer, a class score each.

The network takes raw values with NaN where an observation is missing: normalisation and the
filling of gaps are part of its graph, so that whoever runs the ONNX file needs neither.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class GapFilling(nn.Module):
    """Fills missing dates by linear interpolation between the nearest observations.

    Before the first and after the last observation the nearest one is repeated; a series with no
    observation at all becomes 0, the mean of normalised data. Input and output are
    ``[batch, bands, time]``; NaN marks what is missing. Positions count as time: dates are treated
    as equally spaced.
    """

    def forward(self, series: Tensor) -> Tensor:
        seen = ~torch.isnan(series)
        before, before_weight = _nearest(series, seen, backwards=False)
        after, after_weight = _nearest(series, seen, backwards=True)
        total = (before_weight + after_weight).clamp_min(torch.finfo(series.dtype).tiny)
        filled = (before * before_weight + after * after_weight) / total
        return torch.where(seen, series, filled)


class TemporalCnn(nn.Module):
    """The network: logits ``[batch, class]`` for raw ``[batch, time, bands]``.

    ``mean`` and ``deviation`` are ``[bands]``, from the training pixels.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        *,
        dates: int,
        classes: int,
        mean: Tensor,
        deviation: Tensor,
        filters: int,
        kernel_size: int,
        dense_units: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.gaps = GapFilling()
        bands = mean.numel()
        blocks: list[nn.Module] = []
        for channels in (bands, filters, filters):
            blocks += [
                nn.Conv1d(channels, filters, kernel_size, padding="same"),
                nn.BatchNorm1d(filters),
                nn.ReLU(),
                nn.Dropout(dropout),
            ]
        self.layers = nn.Sequential(
            *blocks,
            nn.Flatten(),
            nn.Linear(filters * dates, dense_units),
            nn.BatchNorm1d(dense_units),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(dense_units, classes),
        )

    def prepare(self, series: Tensor) -> Tensor:
        """Normalise and fill raw ``[batch, time, bands]``: ``[batch, bands, time]``, no NaN."""
        normalised = (series - self.mean) / self.deviation
        filled: Tensor = self.gaps(normalised.transpose(1, 2))
        return filled

    def classify(self, prepared: Tensor) -> Tensor:
        """Logits ``[batch, class]`` for what :meth:`prepare` gave."""
        logits: Tensor = self.layers(prepared)
        return logits

    def forward(self, series: Tensor) -> Tensor:
        return self.classify(self.prepare(series))


class Probabilities(nn.Module):
    """A classifier's probabilities ``[batch, class]`` from its logits: what the ONNX file gives."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, series: Tensor) -> Tensor:
        return functional.softmax(self.classifier(series), dim=1)


def _nearest(series: Tensor, seen: Tensor, *, backwards: bool) -> tuple[Tensor, Tensor]:
    """The nearest observation on one side of each date, and 1 / its distance (0 where none is).

    A scan in ``log2(time)`` steps: after the step of width w, the last 2 w dates are searched.
    """
    dates = series.shape[-1]
    value = torch.where(seen, series, torch.zeros_like(series))
    distance = torch.zeros_like(series)
    found = seen
    width = 1
    while width < dates:
        reached = found
        value = torch.where(reached, value, _shifted(value, width, backwards))
        distance = torch.where(reached, distance, _shifted(distance, width, backwards) + width)
        found = reached | (_shifted(reached.to(series.dtype), width, backwards) > 0)
        width *= 2
    weight = torch.where(found, 1 / distance.clamp_min(1), torch.zeros_like(distance))
    return value, weight


def _shifted(values: Tensor, width: int, backwards: bool) -> Tensor:
    """Each date takes what lies ``width`` dates before it (after it, backwards); 0 past the end."""
    if backwards:
        return functional.pad(values[..., width:], (0, width))
    return functional.pad(values[..., :-width], (width, 0))
