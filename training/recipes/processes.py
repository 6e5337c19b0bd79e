"""The processes of one PyTorch training: one a GPU, over all hosts, as torchrun starts them.

The batch of the hyperparameters is that of the whole training, whatever the number of processes:
each trains on its share of every batch, and gradients are summed over all. So a run says the same
on one GPU and on sixteen.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
from torch import Tensor, distributed, nn

from training.recipes.inputs import RecipeError

# Longer than any epoch's evaluation, for which the others wait; a host that is gone is noticed
# by its closed connection, not by this.
_PATIENCE = timedelta(minutes=30)


@dataclass(frozen=True)
class Processes:
    """This process's place among ``count``; ``local`` and ``local_count`` are its host's."""

    rank: int = 0
    count: int = 1
    local: int = 0
    local_count: int = 1
    gpus: int = 0
    """How many GPUs its host shows."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Processes":
        """As torchrun says; a single one without it."""
        return cls(
            rank=int(environment.get("RANK", "0")),
            count=int(environment.get("WORLD_SIZE", "1")),
            local=int(environment.get("LOCAL_RANK", "0")),
            local_count=int(environment.get("LOCAL_WORLD_SIZE", "1")),
            gpus=int(environment.get("SM_NUM_GPUS", "0")),
        )

    @property
    def is_first(self) -> bool:
        """Whether this process evaluates, writes and hands over."""
        return self.rank == 0

    def device(self) -> torch.device:
        """Its own GPU, or the CPU where the machine has none or PyTorch was built without CUDA.

        Raises:
            RecipeError: the machine has GPUs that this PyTorch cannot use.
        """
        if not torch.cuda.is_available():
            if self.gpus and torch.version.cuda is not None:
                raise RecipeError(
                    f"this machine has {self.gpus} GPUs, but PyTorch {torch.__version__} cannot "
                    f"use them: it needs a driver for CUDA {torch.version.cuda}; take a newer "
                    "machine image, or a training image for an older CUDA"
                )
            return torch.device("cpu")
        device = torch.device("cuda", self.local)
        torch.cuda.set_device(device)
        return device

    @contextmanager
    def connected(self, device: torch.device) -> Iterator[None]:
        """Meet the others; nothing to do for a single process."""
        if self.count == 1:
            yield
            return
        backend = "nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(backend, timeout=_PATIENCE)
        try:
            yield
        finally:
            distributed.destroy_process_group()

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of a batch that all of them know."""
        return batch[self.rank :: self.count]

    def sum_step(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """Sum the gradients and the loss over all processes, in one message; the whole loss."""
        if self.count == 1:
            return loss
        gradients = [part.grad for part in parameters if part.grad is not None]
        message = torch.cat([loss.reshape(1), *(part.flatten() for part in gradients)])
        distributed.all_reduce(message)
        offset = 1
        for gradient in gradients:
            size = gradient.numel()
            gradient.copy_(message[offset : offset + size].view_as(gradient))
            offset += size
        return message[0]

    def average(self, values: Iterable[Tensor]) -> None:
        """Make floating-point tensors the mean over all processes, in place."""
        if self.count == 1:
            return
        for value in values:
            if value.is_floating_point():
                distributed.all_reduce(value)
                value /= self.count

    def agree(self, value: object) -> object:
        """What the first process has, everywhere."""
        if self.count == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """A seed for one process's epoch, independent of all others: an epoch that is trained again
    after an interruption is trained the same."""
    sequence = np.random.SeedSequence([seed, epoch, rank])
    # PyTorch's generators take a signed 64-bit number.
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)
