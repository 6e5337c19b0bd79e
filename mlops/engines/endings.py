"""Rules that turn what an engine says of a job's end into a sentence that a person can act on."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mlops.engines import Phase


@dataclass(frozen=True)
class Ending:
    """One way in which a job ends without success.

    ``pattern`` is searched for in the engine's own words, without regard to case; ``cause`` names
    it in the documentation.
    """

    cause: str
    pattern: str
    sentence: str
    retryable: bool = False
    phase: Phase = Phase.FAILED

    def matches(self, words: str) -> bool:
        """Whether the engine's words are of this ending."""
        return re.search(self.pattern, words, re.IGNORECASE | re.DOTALL) is not None

    def reason(self, words: str) -> str:
        """The sentence, with the engine's own words behind it."""
        said = shortened(words)
        return f"{self.sentence} ({said})" if said else self.sentence


def shortened(words: str, limit: int = 300) -> str:
    """The engine's words on one line, at most ``limit`` characters."""
    line = " ".join(words.split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def find_ending(endings: Sequence[Ending], words: str) -> Ending | None:
    """The first of ``endings`` that matches."""
    return next((ending for ending in endings if ending.matches(words)), None)
