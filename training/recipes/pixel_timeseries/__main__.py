"""Train as the environment says: ``python -m training.recipes.pixel_timeseries``."""

import os
import sys

# cuBLAS is deterministic only when it is told so before CUDA starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

from mlops.recipes import PixelTimeSeriesHyperparameters
from training.recipes.inputs import RecipeInputs, read_hyperparameters
from training.recipes.pixel_timeseries.recipe import run
from training.recipes.processes import Processes

if __name__ == "__main__":
    run(
        RecipeInputs.from_environment(),
        read_hyperparameters(PixelTimeSeriesHyperparameters, sys.argv[1:]),
        Processes.from_environment(),
    )
