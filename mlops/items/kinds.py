"""The kinds of item that a workspace holds."""

from enum import StrEnum


class Kind(StrEnum):
    """What the items of a collection are; a collection says it as ``mlops:kind``."""

    TRAINING_DATA = "training-data"
    TRAINING_RUN = "training-run"
    MODEL = "model"

    @property
    def collection_suffix(self) -> str:
        """The end of the collection's id, after the workspace."""
        return _SUFFIXES[self]


_SUFFIXES = {
    Kind.TRAINING_DATA: "training-data",
    Kind.TRAINING_RUN: "training-runs",
    Kind.MODEL: "models",
}
