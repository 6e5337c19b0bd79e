"""`mlops data`: datasets and their versions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import options
from cli.output import bytes_text, emit_json, print_facts, print_table, say, time_text

if TYPE_CHECKING:
    from mlops.datasets.push import PushResult
    from mlops.datasets.times import Interval

app = typer.Typer(no_args_is_help=True, help="Push and list datasets.")

PUSH_STAGES = {"reading": "Reading samples", "hashing": "Checksums", "uploading": "Uploading"}
STAGES_IN_BYTES = frozenset({"hashing", "uploading"})
_IGNORED_SHOWN = 5


@app.command("push")
def push(
    folder: Annotated[
        Path, typer.Argument(help="Folder with train/, validation/, test/, or a samples.csv.")
    ],
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Name of the dataset.")],
    title: Annotated[str | None, typer.Option(help="Title of the version.")] = None,
    description: Annotated[
        str | None, typer.Option(help="What it is [default: first paragraph of its README.md].")
    ] = None,
    data_suffix: Annotated[
        list[str] | None,
        typer.Option(help="End of data file names, e.g. _ndvi; repeatable [default: _data, none]."),
    ] = None,
    label_suffix: Annotated[
        list[str] | None,
        typer.Option(help="End of label file names, e.g. _lulc; repeatable [default: _labels]."),
    ] = None,
    datetime: Annotated[
        str | None,
        typer.Option(help="Time, or START/END, of samples whose files name none.", metavar="TIME"),
    ] = None,
    workspace: options.Workspace = None,
    url: options.Url = None,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Push a folder of rasters and labels as a version of a dataset.

    Only files that the store lacks are uploaded. Pushing the same again makes no new version.
    """
    from cli.progress import transfer_bars
    from mlops.datasets.layout import Suffixes

    interval = _interval(datetime)
    with (
        options.connect(url, home, workspace) as client,
        transfer_bars(PUSH_STAGES, STAGES_IN_BYTES) as on_stage,
    ):
        result = client.data.push(
            folder,
            dataset,
            title=title,
            description=description,
            suffixes=Suffixes.of(data_suffix or (), label_suffix or ()),
            interval=interval,
            on_progress=on_stage,
        )
    if json:
        emit_json(push_document(result))
    else:
        print_pushed(result)


def _interval(text: str | None) -> "Interval | None":
    from mlops.datasets.times import parse_interval

    if text is None:
        return None
    try:
        return parse_interval(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{error}: give an ISO 8601 time, or two with a slash between", param_hint="--datetime"
        ) from error


def push_document(result: "PushResult") -> dict[str, object]:
    """What a push did, as JSON."""
    return {
        "created": result.created,
        "uploaded": {"files": result.uploaded_files, "bytes": result.uploaded_bytes},
        "total": {"files": result.total_files, "bytes": result.total_bytes},
        "ignored": [{"path": i.path, "reason": i.reason} for i in result.scanned.ignored],
        "notes": list(result.scanned.notes),
        "item": result.item,
    }


def print_pushed(result: "PushResult") -> None:
    """What a push did, for people."""
    from mlops.sdk import DatasetVersion

    version = DatasetVersion.of(result.item)
    for note in result.scanned.notes:
        say(f"Note: {note}")
    ignored = result.scanned.ignored
    for entry in ignored[:_IGNORED_SHOWN]:
        say(f"Ignored: {entry.path} ({entry.reason})")
    if len(ignored) > _IGNORED_SHOWN:
        say(f"Ignored: {len(ignored) - _IGNORED_SHOWN} more (--json lists all)")
    if result.created:
        typer.echo(f"{version.name} version {version.version} is made.")
    else:
        typer.echo(f"Nothing is new: this is version {version.version} of {version.name}.")
    print_facts(
        [
            ("samples", f"{version.samples} ({_splits(version.splits)})"),
            ("files", f"{result.total_files} ({bytes_text(result.total_bytes)})"),
            ("uploaded", f"{result.uploaded_files} ({bytes_text(result.uploaded_bytes)})"),
            ("item", version.href),
        ]
    )


@app.command("list")
def list_datasets(
    dataset: Annotated[str | None, typer.Argument(help="Only versions of this dataset.")] = None,
    workspace: options.Workspace = None,
    url: options.Url = None,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """List dataset versions."""
    with options.connect(url, home, workspace) as client:
        versions = client.data.list(dataset=dataset)
    if json:
        emit_json([version.item for version in versions])
        return
    print_table(
        ("dataset", ">version", ">samples", ">size", "splits", "title"),
        [
            (
                v.name,
                v.version,
                v.samples,
                bytes_text(v.size),
                _splits(v.splits),
                v.title if v.title != v.name else "",
            )
            for v in versions
        ],
        empty="There is no dataset yet: push one with `mlops data push DIR --dataset NAME`.",
    )


@app.command("show")
def show(
    reference: Annotated[str, typer.Argument(help="NAME (latest), NAME:v2 or NAME-v2.")],
    workspace: options.Workspace = None,
    url: options.Url = None,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Show a dataset version."""
    with options.connect(url, home, workspace) as client:
        version = client.data.get(reference)
    if json:
        emit_json(version.item)
        return
    properties = version.item["properties"]
    print_facts(
        [
            ("dataset", f"{version.name} version {version.version}"),
            ("title", version.title),
            ("description", properties.get("description")),
            ("samples", f"{version.samples} ({_splits(version.splits)})"),
            ("size", bytes_text(version.size)),
            ("from", time_text(properties.get("start_datetime"))),
            ("to", time_text(properties.get("end_datetime"))),
            ("digest", version.digest),
            ("manifest", version.asset_href("manifest")),
            ("item", version.href),
        ]
    )
    typer.echo("")
    print_table(
        (">value", "class", ">label pixels"),
        [(c["value"], c.get("name", ""), c.get("count", "")) for c in version.classes],
        empty="It has no classes.",
    )


@app.command("sample")
def sample(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    seed: Annotated[int | None, typer.Option(min=0, help="Another seed, another dataset.")] = None,
    json: options.Json = False,
) -> None:
    """Write a synthetic dataset of land cover, made by code, to try things with."""
    from cli.progress import transfer_bars
    from mlops.datasets.synthetic import SyntheticSpec, write_synthetic

    spec = SyntheticSpec() if seed is None else SyntheticSpec(seed=seed)
    with transfer_bars({"chips": "Making chips"}, frozenset()) as on_stage:
        chips = write_synthetic(folder, spec, lambda done, total: on_stage("chips", done, total))
    if json:
        emit_json({"folder": str(folder), "chips": chips, "seed": spec.seed, "synthetic": True})
        return
    typer.echo(f"{chips} synthetic chips are in {folder}. Push them with:")
    typer.echo(f"  mlops data push {folder} --dataset synthetic-landcover")


def _splits(splits: dict[str, dict[str, int]]) -> str:
    from mlops.jobs import SPLITS

    return ", ".join(f"{name} {splits[name]['samples']}" for name in SPLITS if name in splits)
