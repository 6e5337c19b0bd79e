"""`mlops model`: the models that runs made."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import options
from cli.output import (
    bytes_text,
    emit_json,
    number_text,
    print_facts,
    print_table,
    time_text,
)

if TYPE_CHECKING:
    from mlops.sdk import ModelVersion

app = typer.Typer(no_args_is_help=True, help="List, show and pull models.")

Reference = Annotated[str, typer.Argument(help="NAME (latest), NAME:v2 or NAME-v2.")]


@app.command("list")
def list_models(
    model: Annotated[str | None, typer.Argument(help="Only versions of this model.")] = None,
    workspace: options.Workspace = None,
    url: options.Url = None,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """List model versions."""
    with options.connect(url, home, workspace) as client:
        versions = client.models.list(model=model)
    if json:
        emit_json([version.item for version in versions])
        return
    print_table(
        ("model", ">version", "framework", "created", "metrics"),
        [
            (v.name, v.version, v.framework or "", time_text(v.created), _headline(v))
            for v in versions
        ],
        empty="There is no model yet: a run that ends well makes one (`mlops run submit`).",
    )


@app.command("show")
def show(
    reference: Reference,
    workspace: options.Workspace = None,
    url: options.Url = None,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Show a model version with its metrics, files and links."""
    with options.connect(url, home, workspace) as client:
        version = client.models.get(reference)
    if json:
        emit_json(version.item)
    else:
        print_model(version)


@app.command("pull")
def pull(
    reference: Reference,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="File, or FOLDER/ [default: NAME-vN.onnx]."),
    ] = None,
    workspace: options.Workspace = None,
    url: options.Url = None,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Download a model's ONNX file and check it against its Item."""
    from cli.progress import download_bar

    with options.connect(url, home, workspace) as client:
        version = client.models.get(reference)
        size = version.item["assets"].get("model", {}).get("file:size")
        with download_bar(version.id, size) as on_received:
            pulled = client.models.pull(version, _target(output), on_received=on_received)
    if json:
        emit_json(
            {
                "model": version.id,
                "path": str(pulled.path),
                "href": pulled.href,
                "size": pulled.size,
                "sha256": pulled.sha256,
            }
        )
        return
    typer.echo(f"{pulled.path} ({bytes_text(pulled.size)}), checksum as the Item says.")


def _target(output: str | None) -> Path | None:
    if output is None:
        return None
    path = Path(output)
    if output.endswith("/"):
        path.mkdir(parents=True, exist_ok=True)
    return path


def print_model(version: "ModelVersion", *, metrics: bool = True) -> None:
    """A model version for people, with its ``metrics`` or without."""
    # Once each: a dataset is linked for every split that it gave.
    links = dict.fromkeys(
        (link["rel"], link["href"])
        for link in version.item.get("links", [])
        if link["rel"] in _SHOWN_LINKS
    )
    print_facts(
        [
            ("model", f"{version.name} version {version.version}"),
            ("title", version.title if version.title != version.id else None),
            ("created", time_text(version.created)),
            ("framework", version.framework),
            ("parameters", f"{version.parameters:,}" if version.parameters else None),
            ("item", version.href),
            *links,
            *((f"asset {key}", a["href"]) for key, a in version.item.get("assets", {}).items()),
        ]
    )
    if metrics and version.metrics:
        typer.echo("")
        print_table(
            ("metric", ">value"),
            [(name, number_text(value)) for name, value in sorted(version.metrics.items())],
            empty="",
        )


_SHOWN_LINKS = (
    "derived_from",
    "training-run",
    "predecessor-version",
    "successor-version",
    "latest-version",
)


def _headline(version: "ModelVersion") -> str:
    """The scores on held-out samples: a row has no room for all."""
    shown = ("test_accuracy", "test_balanced_accuracy")
    return ", ".join(
        f"{name.removeprefix('test_')} {number_text(version.metrics[name])}"
        for name in shown
        if name in version.metrics
    )
