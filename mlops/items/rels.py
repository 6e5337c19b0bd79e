"""Link relation types."""

from enum import StrEnum


class Rel(StrEnum):
    """Relation types that the system writes or reads."""

    SELF = "self"
    ROOT = "root"
    PARENT = "parent"
    COLLECTION = "collection"
    TRAINING_DATA = "training-data"
    TRAINING_RUN = "training-run"
    MODEL = "model"
    WORKSPACE = "workspace"
    DERIVED_FROM = "derived_from"
    PREDECESSOR_VERSION = "predecessor-version"
    SUCCESSOR_VERSION = "successor-version"
    LATEST_VERSION = "latest-version"
    ML_MODEL_TRAIN_DATA = "ml-model:train-data"


# Made from where an item lies whenever it is read; never stored.
INFERRED = frozenset({"self", "root", "parent", "collection", "items", "item", "child"})
