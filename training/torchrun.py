"""Reading in a log what torchrun says of the processes that it started."""

import re
from dataclasses import dataclass

_ROOT_CAUSE = "Root Cause (first observed failure):"
_RANK = re.compile(r"^\s*rank\s*: (\d+)")
_EXIT_CODE = re.compile(r"^\s*exitcode\s*: (-?\d+)")
# A line of torchrun's own log, such as "E1123 18:33:08.713000 21262 torch/distributed/elastic/...".
_OWN_LINE = re.compile(r"^[A-Z]\d{4} [\d:.]+ \d+ torch/distributed/")
# PyTorch writes it before each line of an exception that ends a process of several.
_PREFIX = re.compile(r"^\[rank(\d+)\]: ?")
# What Gloo and NCCL say when the process at the other end of a connection is gone.
_LOST_PEER = re.compile(
    r"Connection (reset|closed) by peer|Broken pipe|ncclRemoteError|remote process exited",
)


@dataclass(frozen=True)
class WorkerFailure:
    """The process that failed first: its exit code (negative: a signal) and what it wrote."""

    code: int
    lines: list[str]

    @property
    def lost_peer(self) -> bool:
        """Whether it failed because a process elsewhere was gone."""
        return any(_LOST_PEER.search(line) for line in self.lines)


def first_failure(lines: list[str]) -> WorkerFailure | None:
    """Which process ended the training; None where torchrun says nothing of it."""
    if _ROOT_CAUSE not in lines:
        return None
    index = len(lines) - 1 - lines[::-1].index(_ROOT_CAUSE)
    rank = _first(_RANK, lines[index:])
    code = _first(_EXIT_CODE, lines[index:])
    if rank is None or code is None:
        return None
    written = lines[: next((i for i, line in enumerate(lines) if _OWN_LINE.match(line)), index)]
    own = [
        _PREFIX.sub("", line)
        for line in written
        if (match := _PREFIX.match(line)) and int(match[1]) == rank
    ]
    return WorkerFailure(code, own or written)


def _first(pattern: re.Pattern[str], lines: list[str]) -> int | None:
    for line in lines:
        if match := pattern.match(line):
            return int(match[1])
    return None
