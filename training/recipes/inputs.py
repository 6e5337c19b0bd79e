"""What a recipe is given, read from the environment that the contract describes."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import pyarrow.parquet as pq
from pydantic import BaseModel

from mlops.jobs import Split
from training.contract import CLASSES_ENV, MANIFEST_ENV, METRICS_FILE_ENV, OBJECTIVE_ENV

Hyperparameters = TypeVar("Hyperparameters", bound=BaseModel)


class RecipeError(Exception):
    """The recipe cannot do what it was asked; the message says what to change."""


@dataclass(frozen=True)
class SampleFiles:
    """The staged files of a sample."""

    id: str
    dataset: str
    split: Split
    data: Path
    labels: Path | None


@dataclass(frozen=True)
class RecipeInputs:
    """Samples, classes, objective and folders of one run."""

    samples: tuple[SampleFiles, ...]
    classes: tuple[dict[str, Any], ...]
    """``classification:classes`` of the datasets."""
    metric: str
    goal: Literal["maximize", "minimize"]
    model_folder: Path
    output_folder: Path
    checkpoint_folder: Path
    metrics_file: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "RecipeInputs":
        """Read what the agent set; a variable that is missing is a :class:`RecipeError`."""
        try:
            objective = json.loads(environment[OBJECTIVE_ENV])
            return cls(
                samples=tuple(_read_samples(Path(environment[MANIFEST_ENV]))),
                classes=tuple(json.loads(environment[CLASSES_ENV])),
                metric=objective["metric"],
                goal=objective["goal"],
                model_folder=Path(environment["SM_MODEL_DIR"]),
                output_folder=Path(environment["SM_OUTPUT_DATA_DIR"]),
                checkpoint_folder=Path(environment["SM_CHECKPOINT_DIR"]),
                metrics_file=Path(environment[METRICS_FILE_ENV]),
            )
        except KeyError as error:
            raise RecipeError(
                f"{error.args[0]} is not set: a recipe is started by `python -m training.job`"
            ) from error

    def split(self, split: Split) -> list[SampleFiles]:
        """The samples of one split, in the manifest's order."""
        return [sample for sample in self.samples if sample.split == split]


def read_hyperparameters(
    kind: type[Hyperparameters],
    arguments: Sequence[str],
    environment: Mapping[str, str] = os.environ,
) -> Hyperparameters:
    """The hyperparameters: ``--name value`` arguments over ``SM_HPS`` over the defaults."""
    values: dict[str, Any] = json.loads(environment.get("SM_HPS", "{}"))
    for index in range(0, len(arguments), 2):
        pair = arguments[index : index + 2]
        if len(pair) != 2 or not pair[0].startswith("--"):
            raise RecipeError(f"arguments come as `--name value`, but here is {' '.join(pair)!r}")
        values[pair[0][2:].replace("-", "_")] = _parsed(pair[1])
    return kind.model_validate(values)


def write_json(path: Path, body: Any) -> None:
    """Write a JSON document that a person can read."""
    path.write_text(json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _read_samples(manifest: Path) -> list[SampleFiles]:
    return [
        SampleFiles(
            id=row["id"],
            dataset=row["dataset"],
            split=cast(Split, row["split"]),
            data=Path(row["data"]),
            labels=Path(row["labels"]) if row["labels"] else None,
        )
        for row in pq.read_table(manifest).to_pylist()
    ]


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
