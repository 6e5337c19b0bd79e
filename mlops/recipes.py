"""The built-in recipes: their names, what they train, and the rule of their hyperparameters.

The API checks a run against this catalogue and serves it at ``/recipes``; the code that trains
lies in ``training.recipes``.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class PixelTimeSeriesHyperparameters(BaseModel):
    """Hyperparameters of ``pixel-timeseries``.

    The network is the temporal CNN of Pelletier, Webb and Petitjean (2019), "Temporal
    Convolutional Neural Network for the Classification of Satellite Image Time Series", Remote
    Sensing 11(5), 523: three temporal convolutions, one dense layer, softmax.
    """

    # Built when it is first used: a process that starts to answer reads does without.
    model_config = ConfigDict(extra="forbid", defer_build=True)

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 15
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-3
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 256
    filters: Annotated[int, Field(ge=1, le=1024)] = 32
    kernel_size: Annotated[int, Field(ge=1, le=31)] = 5
    dense_units: Annotated[int, Field(ge=1, le=4096)] = 256
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-6
    class_weights: bool = True
    """Weigh the loss by the inverse square root of each class's frequency."""
    max_pixels: Annotated[int, Field(ge=1)] | None = None
    """At most this many training pixels, drawn with the seed; all when left out."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0


@dataclass(frozen=True)
class Recipe:
    """A recipe's entry in the catalogue."""

    name: str
    title: str
    description: str
    tasks: tuple[str, ...]
    frameworks: tuple[str, ...]
    module: dict[str, str]
    """By framework: the module that ``training.job`` runs."""
    hyperparameters: type[BaseModel]
    default_metric: str
    default_goal: str

    def describe(self) -> dict[str, Any]:
        """The recipe as JSON, hyperparameters as JSON Schema."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "tasks": list(self.tasks),
            "frameworks": list(self.frameworks),
            "objective": {"metric": self.default_metric, "goal": self.default_goal},
            "hyperparameters": self.hyperparameters.model_json_schema(),
        }


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="pixel-timeseries",
            title="Land cover from a pixel's time series",
            description=(
                "A temporal CNN (Pelletier et al. 2019) that classifies each pixel by its series "
                "of observations; missing dates are interpolated. Samples are pairs of rasters on "
                "one grid: a series (a band for each date) and labels."
            ),
            tasks=("classification", "semantic-segmentation"),
            frameworks=("pytorch",),
            module={"pytorch": "training.recipes.pixel_timeseries"},
            hyperparameters=PixelTimeSeriesHyperparameters,
            default_metric="val_balanced_accuracy",
            default_goal="maximize",
        ),
    )
}
