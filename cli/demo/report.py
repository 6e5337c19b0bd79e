"""What the demo says at its end: scores, and how to look further."""

import re
import shlex
from pathlib import Path

import typer

from cli.demo.evaluation import Evaluation
from cli.output import number_text, print_table
from mlops.sdk import ModelVersion, Run


def print_scores(evaluation: Evaluation, run: Run) -> None:
    """Scores of the downloaded model beside what the run reported."""
    scores = evaluation.scores
    rows = [
        ("accuracy", scores.accuracy, "test_accuracy"),
        ("balanced accuracy", scores.balanced_accuracy, "test_balanced_accuracy"),
        *(
            (f"F1 {name}", scores.f1[value], f"test_f1_{_slug(name)}")
            for value, name in evaluation.class_names.items()
            if value in scores.f1
        ),
    ]
    typer.echo(
        f"{scores.pixels:,} pixels of {evaluation.samples} test samples, predicted by "
        "ONNX Runtime on this machine:"
    )
    print_table(
        ("score", ">ONNX here", ">the run's"),
        [(name, number_text(value), _reported(run, metric)) for name, value, metric in rows],
        empty="",
    )
    typer.echo(f"Always saying the most frequent class is right on {scores.majority:.1%}.")


def print_further(home: Path, url: str, run: Run, model: ModelVersion) -> None:
    """Commands and URLs to look further; they need the stack running."""
    up = f"mlops up --home {shlex.quote(str(home))}"
    place = f"--home {shlex.quote(str(home))} -w demo"
    typer.echo(f"Start the stack again:  {up}")
    typer.echo("Then, in another terminal:")
    for command in (
        f"mlops run show {run.id} {place}",
        f"mlops model list {place}",
        f"mlops model pull {model.id} {place}",
        f"curl {model.href}",
        f"curl {url}/collections/demo-training-runs/items",
    ):
        typer.echo(f"  {command}")
    typer.echo(f"Or in a browser:  {url}/api.html")


def _reported(run: Run, metric: str) -> str:
    return number_text(run.metrics[metric]) if metric in run.metrics else ""


def _slug(name: str) -> str:
    """A class's name as it is spelled in a metric's name."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
