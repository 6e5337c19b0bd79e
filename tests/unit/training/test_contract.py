"""The script-mode contract: what a script finds in its environment and on its command line."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops.jobs import JobDocument
from mlops.recipes import PixelTimeSeriesHyperparameters
from training.contract import Hosts, WorkFolders, script_command, script_environment
from training.recipes.inputs import RecipeError, RecipeInputs, read_hyperparameters


def _environment(
    document: JobDocument, folders: WorkFolders, inherited: dict[str, str]
) -> dict[str, str]:
    return script_environment(
        document,
        folders,
        channels=("train", "test"),
        classes=[{"value": 2, "name": "forest"}],
        gpus=1,
        hosts=Hosts(),
        inherited=inherited,
    )


def test_the_environment_is_sagemakers(
    document: Callable[..., JobDocument], tmp_path: Path
) -> None:
    folders = WorkFolders(tmp_path)
    hyperparameters = {"epochs": 3, "learning_rate": 0.01, "class_weights": False, "note": "a b"}
    environment = _environment(document([], hyperparameters=hyperparameters), folders, {})

    assert json.loads(environment["SM_HPS"]) == hyperparameters
    assert environment["SM_HP_LEARNING_RATE"] == "0.01"
    assert environment["SM_HP_CLASS_WEIGHTS"] == "false"
    assert environment["SM_HP_NOTE"] == "a b"
    assert json.loads(environment["SM_CHANNELS"]) == ["train", "test"]
    assert environment["SM_CHANNEL_TRAIN"] == str(folders.channel("train"))
    assert "SM_CHANNEL_VALIDATION" not in environment
    assert environment["SM_MODEL_DIR"] == str(folders.model)
    assert environment["SM_NUM_GPUS"] == "1"
    assert json.loads(environment["SM_HOSTS"]) == [environment["SM_CURRENT_HOST"]]


def test_a_wait_policy_that_was_chosen_is_kept(
    document: Callable[..., JobDocument], tmp_path: Path
) -> None:
    folders = WorkFolders(tmp_path)
    assert _environment(document([]), folders, {})["OMP_WAIT_POLICY"] == "PASSIVE"
    chosen = {"OMP_WAIT_POLICY": "ACTIVE"}
    assert _environment(document([]), folders, chosen)["OMP_WAIT_POLICY"] == "ACTIVE"


def test_the_jobs_secrets_stay_with_the_agent(
    document: Callable[..., JobDocument], tmp_path: Path
) -> None:
    inherited = {"PATH": "/bin", "MLOPS_RUN_TOKEN": "secret", "MLOPS_JOB": "/job.json"}
    environment = _environment(document([]), WorkFolders(tmp_path), inherited)

    assert environment["PATH"] == "/bin"
    assert "secret" not in environment.values()
    assert "MLOPS_JOB" not in environment


def test_hyperparameters_survive_the_command_line() -> None:
    given = {"epochs": 3, "learning_rate": 1e-5, "class_weights": False, "max_pixels": None}
    command = script_command("some.module", given)

    assert command[:3] == [sys.executable, "-m", "some.module"]
    options = read_hyperparameters(PixelTimeSeriesHyperparameters, command[3:], {})
    assert options == PixelTimeSeriesHyperparameters(**given)


def test_arguments_go_before_the_environment() -> None:
    options = read_hyperparameters(
        PixelTimeSeriesHyperparameters,
        ["--epochs", "5"],
        {"SM_HPS": json.dumps({"epochs": 3, "filters": 7})},
    )
    assert (options.epochs, options.filters) == (5, 7)


def test_a_recipe_outside_a_job_says_how_it_is_started() -> None:
    with pytest.raises(RecipeError, match=r"python -m training\.job"):
        RecipeInputs.from_environment({})
    with pytest.raises(RecipeError, match="--name value"):
        read_hyperparameters(PixelTimeSeriesHyperparameters, ["--epochs"], {})
