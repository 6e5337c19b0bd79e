"""`mlops run`: training runs."""

import json as jsonlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cli import options
from cli.exit_codes import ExitCode
from cli.output import (
    emit_json,
    emit_json_line,
    number_text,
    print_facts,
    print_table,
    say,
    time_text,
)

if TYPE_CHECKING:
    from mlops.sdk import Client, Run

app = typer.Typer(no_args_is_help=True, help="Submit, follow and end training runs.")

Value = TypeVar("Value")
RunId = Annotated[str, typer.Argument(metavar="RUN", help="Id of the run.")]


@app.command("submit")
def submit(
    file: Annotated[
        Path | None, typer.Argument(help="A run as a STAC Item (JSON), - for stdin.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name of the model to make.")] = None,
    recipe: Annotated[str | None, typer.Option(help="A built-in recipe: pixel-timeseries.")] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="DATASET[:vN]", help="What to train on; repeatable."),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="K=V", help="A hyperparameter; repeatable."),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(metavar="METRIC[:minimize]", help="What decides which epoch is best."),
    ] = None,
    task: Annotated[str | None, typer.Option(help="The task [default: the recipe's].")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the run.")] = None,
    run_id: Annotated[str | None, typer.Option("--id", help="Id of the run.")] = None,
    max_runtime: Annotated[
        int | None, typer.Option(min=1, metavar="SECONDS", help="End the job after this long.")
    ] = None,
    max_attempts: Annotated[
        int | None, typer.Option(min=1, help="Try so often when the platform fails [default: 1].")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="local, sagemaker or batch [default: the deployment's].")
    ] = None,
    instance_type: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Machine to train on, such as g5.xlarge.")
    ] = None,
    instances: Annotated[
        int | None, typer.Option(min=1, help="Machines that train together [default: 1].")
    ] = None,
    spot: Annotated[
        bool, typer.Option("--spot", help="Spare capacity: cheaper, may be interrupted.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it until it has ended.")] = False,
    workspace: options.Workspace = None,
    url: options.Url = None,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Submit a training run, from a FILE or from options.

    For example: mlops run submit --model landcover --recipe pixel-timeseries --data lulc -p
    epochs=20
    """
    flags = {
        "--model": model,
        "--recipe": recipe,
        "--data": data,
        "--param": param,
        "--objective": objective,
        "--task": task,
        "--title": title,
        "--id": run_id,
        "--max-runtime": max_runtime,
        "--max-attempts": max_attempts,
        "--engine": engine,
        "--instance-type": instance_type,
        "--instances": instances,
        "--spot": spot,
    }
    compute = {
        "engine": engine,
        "instance_type": instance_type,
        "instance_count": instances,
        "spot": spot or None,
        "max_runtime": max_runtime,
        "max_attempts": max_attempts,
    }
    item: dict[str, Any] | None = None
    request: dict[str, Any] = {}
    if file:
        item = _item_of_file(file, [name for name, value in flags.items() if value])
    else:
        request = {
            "model": _needed("--model", model),
            "recipe": _needed("--recipe", recipe),
            "data": _needed("--data", data),
            "task": task,
            "hyperparameters": dict(_parameter(text) for text in param or ()),
            "objective": _objective(objective) if objective else None,
            "compute": {name: value for name, value in compute.items() if value is not None},
            "title": title,
            "run_id": run_id,
        }
    with options.connect(url, home, workspace) as client:
        run = client.runs.train(**request) if item is None else client.runs.submit(item)
        if json and not watch:
            emit_json(run.item)
            return
        if not json:
            typer.echo(f"Run {run.id} is {run.status}.")
            print_facts([("item", run.href)])
        if watch:
            _follow(client, run.id, log=False, json=json)
        else:
            typer.echo(f"Follow it with: mlops run watch {run.id}")


def _item_of_file(file: Path, flags: list[str]) -> dict[str, Any]:
    if flags:
        raise typer.BadParameter(f"FILE says all of it: leave out {', '.join(flags)}")
    text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    try:
        item = jsonlib.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{file} is no JSON: {error}", param_hint="FILE") from error
    if not isinstance(item, dict):
        raise typer.BadParameter(f"{file} is no JSON object", param_hint="FILE")
    return item


def _needed(name: str, value: Value | None) -> Value:
    if not value:
        raise typer.BadParameter("give FILE, or --model, --recipe and --data", param_hint=name)
    return value


def _parameter(text: str) -> tuple[str, Any]:
    """``epochs=20`` as a name and a value: JSON where it is JSON, else text."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--param")
    try:
        return name, jsonlib.loads(value)
    except ValueError:
        return name, value


def _objective(text: str) -> dict[str, str]:
    metric, _, goal = text.partition(":")
    if goal not in ("", "maximize", "minimize"):
        raise typer.BadParameter(
            f"{goal!r} is neither maximize nor minimize", param_hint="--objective"
        )
    return {"metric": metric, "goal": goal or "maximize"}


@app.command("watch")
def watch_run(
    run: RunId,
    log: Annotated[bool, typer.Option("--log", help="Show the log too.")] = False,
    workspace: options.Workspace = None,
    url: options.Url = None,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Follow a run until it has ended. Ctrl-C stops the watching, not the run.

    Exit code 0 when the run is successful, else 1.
    """
    with options.connect(url, home, workspace) as client:
        _follow(client, run, log=log, json=json)


def _follow(client: "Client", run_id: str, *, log: bool, json: bool) -> None:
    from cli.watching import follow
    from mlops.items.status import Status

    try:
        run = follow(client.runs.watch(run_id, log=log), json=json)
    except KeyboardInterrupt:
        say(f"\nNo longer watching; the run goes on. To end it: mlops run dismiss {run_id}")
        raise typer.Exit(130) from None
    if not json:
        print_end(run)
    if run.status is not Status.SUCCESSFUL:
        raise typer.Exit(ExitCode.FAILED)


def print_end(run: "Run") -> None:
    """How a run ended, and where its model is."""
    if run.exit_reason and run.model_href is None:
        say(f"The run is {run.status}: {run.exit_reason}")
    if run.model_href:
        model = run.model_href.rpartition("/")[2]
        print_facts([("model", model), ("item", run.model_href)])
        typer.echo(f"Download it with: mlops model pull {model}")


@app.command("list")
def list_runs(
    status: Annotated[
        str | None,
        typer.Option(help="accepted, running, successful, failed or dismissed."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only runs for this model.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 20,
    workspace: options.Workspace = None,
    url: options.Url = None,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """List runs, the newest first."""
    from mlops.items.status import Status

    if status is not None and status not in list(Status):
        raise typer.BadParameter(f"use one of {', '.join(Status)}", param_hint="--status")
    with options.connect(url, home, workspace) as client:
        runs = client.runs.list(status=Status(status) if status else None, model=model, limit=limit)
    if json:
        emit_json([run.item for run in runs])
        return
    print_table(
        ("run", "model", "status", ">progress", "objective", "created"),
        [
            (
                run.id,
                run.model,
                run.status,
                f"{100 * run.progress:.0f} %",
                _objective_text(run),
                time_text(run.created),
            )
            for run in runs
        ],
        empty="There is no such run: submit one with `mlops run submit`.",
    )


def _objective_text(run: "Run") -> str:
    if run.objective is None or run.objective_value is None:
        return ""
    return f"{run.objective} {number_text(run.objective_value)}"


@app.command("show")
def show(
    run: RunId,
    workspace: options.Workspace = None,
    url: options.Url = None,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Show a run: what was asked, how it stands, what was measured."""
    with options.connect(url, home, workspace) as client:
        found = client.runs.get(run)
    if json:
        emit_json(found.item)
        return
    properties = found.item["properties"]
    hyperparameters = properties.get("mlops:hyperparameters") or {}
    print_facts(
        [
            ("run", found.id),
            ("title", found.title if found.title != found.id else None),
            ("status", f"{found.status}, {100 * found.progress:.0f} %"),
            ("reason", found.exit_reason),
            ("model", found.model),
            ("recipe", properties.get("mlops:recipe")),
            ("parameters", ", ".join(f"{k}={v}" for k, v in hyperparameters.items())),
            ("objective", _objective_text(found)),
            ("created", time_text(found.created)),
            ("started", time_text(found.started)),
            ("finished", time_text(found.finished)),
            *(("training data", href) for href in found.links("training-data")),
            *(("made", href) for href in found.links("model")),
            ("item", found.href),
        ]
    )
    if found.metrics:
        typer.echo("")
        print_table(
            ("metric", ">value"),
            [(name, number_text(value)) for name, value in sorted(found.metrics.items())],
            empty="",
        )


@app.command("logs")
def logs(
    run: RunId,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")
    ] = False,
    workspace: options.Workspace = None,
    url: options.Url = None,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Print a run's log."""
    from mlops.sdk import Logged

    with options.connect(url, home, workspace) as client:
        if not follow:
            text = client.runs.log(run)
            if json:
                emit_json({"run": run, "text": text})
            else:
                typer.echo(text, nl=False)
            return
        for update in client.runs.watch(run, log=True):
            if not isinstance(update, Logged):
                continue
            if json:
                emit_json_line({"run": run, "text": update.text})
            else:
                typer.echo(update.text, nl=False)


@app.command("dismiss")
def dismiss(
    run: RunId,
    workspace: options.Workspace = None,
    url: options.Url = None,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """End a run that has not ended."""
    with options.connect(url, home, workspace) as client:
        found = client.runs.dismiss(run)
    if json:
        emit_json(found.item)
    else:
        typer.echo(f"Run {found.id} is {found.status}.")
