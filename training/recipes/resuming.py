"""A training's checkpoint: all that it takes to go on as if there had been no interruption."""

import hashlib
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

CHECKPOINT_FILE = "checkpoint.pt"
_FORMAT = 1

Tensors = dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """The state after ``epoch``, and that of the best epoch so far."""

    epoch: int
    network: Tensors
    optimiser: dict[str, Any]
    best_epoch: int
    best_metrics: dict[str, float]
    best_network: Tensors


class CheckpointFile:
    """The checkpoint of a training, in ``folder``.

    ``training`` describes what is trained (JSON): the checkpoint of anything else is left alone.
    """

    def __init__(self, folder: Path, training: Any) -> None:
        self._path = folder / CHECKPOINT_FILE
        text = json.dumps([_FORMAT, training], sort_keys=True)
        self._training = hashlib.sha256(text.encode()).hexdigest()

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint as a whole: a job stopped meanwhile leaves one that loads."""
        part = self._path.with_name(f".part-{self._path.name}")
        torch.save({"training": self._training, **vars(checkpoint)}, part)
        part.replace(self._path)

    def load(self) -> Checkpoint | None:
        """The checkpoint of this very training; None when there is none."""
        try:
            # Only tensors and plain values: a checkpoint comes from the object store.
            content = torch.load(self._path, map_location="cpu", weights_only=True)
        except (FileNotFoundError, EOFError, RuntimeError, pickle.UnpicklingError):
            # Not there, or cut short by the end of an earlier container.
            return None
        if not isinstance(content, dict) or content.pop("training", None) != self._training:
            return None
        return Checkpoint(**content)
