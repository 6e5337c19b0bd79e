"""The command `mlops demo`: its steps in their order."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cli import options
from cli.exit_codes import ExitCode
from cli.output import console, emit_json, say

if TYPE_CHECKING:
    from cli.demo.evaluation import Evaluation
    from cli.demo.stack import Stack
    from mlops.sdk import Client, DatasetVersion, ModelVersion, Run

WORKSPACE = "demo"
DATASET = "synthetic-landcover"
MODEL = "demo-landcover"
RECIPE = "pixel-timeseries"
# Small enough for a minute on two cores.
HYPERPARAMETERS = {"epochs": 10, "filters": 32, "dense_units": 128, "seed": 7}


def demo(home: options.Home = None, json: options.Json = False) -> None:
    """Show all of it: push a synthetic dataset, train, get a model, score it. Takes minutes."""
    from cli.demo.stack import StackError, check_installed, running_stack
    from mlops.sdk import Client
    from mlops.sdk.endpoint import find_home

    check_installed()
    folder = find_home(home).absolute()
    try:
        with running_stack(folder) as stack, Client(stack.url, workspace=WORKSPACE) as client:
            report = _show_all(client, stack, folder, json=json)
    except KeyboardInterrupt:
        say(f"\nStopped. A run that was under way goes on with: mlops up --home {folder}")
        raise typer.Exit(130) from None
    except StackError as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        raise typer.Exit(ExitCode.FAILED) from error
    if json:
        emit_json(report)
    elif stack.started:
        typer.echo(f"\nThe stack is stopped. All of it stays in {folder}.")


def _show_all(client: "Client", stack: "Stack", home: Path, *, json: bool) -> dict[str, Any]:
    screen = console(stderr=json)
    _heading(json, "1  The stack")
    state = "started" if stack.started else "was running already"
    screen.print(f"STAC API at {stack.url} ({state})")
    _heading(json, f"2  Workspace {WORKSPACE}")
    _ensure_workspace(client, screen)
    with tempfile.TemporaryDirectory(prefix="mlops-demo-") as name:
        scratch = Path(name)
        _heading(json, f"3  Dataset {DATASET} (synthetic, made by code)")
        dataset = _push(client, scratch / "chips", json=json)
        _heading(json, f"4  A training run: {RECIPE} for model {MODEL}")
        run = _train(client, dataset, json=json)
        _heading(json, "5  The model Item")
        model = _model(client, run, json=json)
        _heading(json, "6  The ONNX file on held-out samples")
        evaluation = _evaluate(client, model, dataset, scratch)
    if not json:
        from cli.demo.report import print_further, print_scores

        print_scores(evaluation, run)
        _heading(json, "7  Where to go on")
        print_further(home, stack.url, run, model)
    return {
        "url": stack.url,
        "home": str(home),
        "dataset": dataset.item,
        "run": run.item,
        "model": model.item,
        "test": {
            "samples": evaluation.samples,
            "pixels": evaluation.scores.pixels,
            "accuracy": evaluation.scores.accuracy,
            "balanced_accuracy": evaluation.scores.balanced_accuracy,
            "f1": {evaluation.class_names[v]: f1 for v, f1 in evaluation.scores.f1.items()},
            "majority_accuracy": evaluation.scores.majority,
        },
    }


def _heading(json: bool, text: str) -> None:
    from rich.text import Text

    screen = console(stderr=json)
    screen.print()
    screen.print(Text(text, style="bold blue"))


def _ensure_workspace(client: "Client", screen: Any) -> None:
    from mlops.api import ConflictError

    try:
        workspace = client.workspaces.create(WORKSPACE, title="Demonstration")
    except ConflictError:
        screen.print("It is there already.")
    else:
        screen.print(f"Made, with the collections {', '.join(workspace.collections.values())}")


def _push(client: "Client", folder: Path, *, json: bool) -> "DatasetVersion":
    from cli.data import PUSH_STAGES, STAGES_IN_BYTES, print_pushed
    from cli.progress import transfer_bars
    from mlops.datasets.synthetic import write_synthetic
    from mlops.sdk import DatasetVersion

    titles = {"chips": "Making chips", **PUSH_STAGES}
    with transfer_bars(titles, STAGES_IN_BYTES) as on_stage:
        write_synthetic(folder, on_chip=lambda done, total: on_stage("chips", done, total))
        result = client.data.push(
            folder, DATASET, title="Synthetic land cover", on_progress=on_stage
        )
    if not json:
        print_pushed(result)
    return DatasetVersion.of(result.item)


def _train(client: "Client", dataset: "DatasetVersion", *, json: bool) -> "Run":
    from cli.run import print_end
    from cli.watching import follow, follow_silently
    from mlops.items.status import Status

    run = client.runs.train(
        model=MODEL, recipe=RECIPE, data=[dataset.id], hyperparameters=HYPERPARAMETERS
    )
    updates = client.runs.watch(run.id)
    ended = follow_silently(updates) if json else follow(updates, json=False)
    if ended.status is not Status.SUCCESSFUL:
        print_end(ended)
        typer.echo(f"Its log: mlops run logs {ended.id} -w {WORKSPACE}", err=True)
        raise typer.Exit(ExitCode.FAILED)
    return ended


def _model(client: "Client", run: "Run", *, json: bool) -> "ModelVersion":
    from cli.model import print_model

    href = run.model_href
    if href is None:
        raise RuntimeError(f"run {run.id} is successful but has no link to its model")
    model = client.models.get(href.rpartition("/")[2])
    if not json:
        print_model(model, metrics=False)
    return model


def _evaluate(
    client: "Client", model: "ModelVersion", dataset: "DatasetVersion", scratch: Path
) -> "Evaluation":
    from cli.demo.evaluation import evaluate
    from cli.progress import transfer_bars

    size = model.item["assets"]["model"].get("file:size")
    titles = {
        "onnx": "Downloading the ONNX file",
        "samples": "Downloading test samples",
        "predicting": "Predicting",
    }
    with transfer_bars(titles, frozenset({"onnx"})) as on_stage:
        received = 0

        def on_received(count: int) -> None:
            nonlocal received
            received += count
            on_stage("onnx", received, size or received)

        pulled = client.models.pull(model, scratch, on_received=on_received)
        return evaluate(client, model, pulled.path, dataset, scratch, on_stage)
