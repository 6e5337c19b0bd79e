"""`mlops workspace`: spaces in which a project works together."""

from dataclasses import asdict
from typing import Annotated

import typer

from cli import options
from cli.output import emit_json, print_facts, print_table, time_text

app = typer.Typer(no_args_is_help=True, help="Make and list workspaces.")


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Id: lower-case letters, digits, hyphens.")],
    title: Annotated[str | None, typer.Option(help="Title for people.")] = None,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Readable by all.")] = False,
    url: options.Url = None,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Make a workspace with its three collections."""
    with options.connect(url, home) as client:
        workspace = client.workspaces.create(
            name,
            title=title,
            description=description,
            visibility="public" if public else None,
        )
    if json:
        emit_json(asdict(workspace))
        return
    typer.echo(f"Workspace {workspace.id} is made.")
    print_facts(workspace.collections.items())


@app.command("list")
def list_workspaces(
    url: options.Url = None, home: options.Home = None, json: options.Json = False
) -> None:
    """List the workspaces."""
    with options.connect(url, home) as client:
        workspaces = client.workspaces.list()
    if json:
        emit_json([asdict(workspace) for workspace in workspaces])
        return
    print_table(
        ("workspace", "title", "visibility", "created"),
        [(w.id, w.title, w.visibility, time_text(w.created)) for w in workspaces],
        empty="There is no workspace yet: make one with `mlops workspace create NAME`.",
    )


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="The workspace.")],
    url: options.Url = None,
    home: options.Home = None,
    json: options.Json = False,
) -> None:
    """Show a workspace and its collections."""
    with options.connect(url, home) as client:
        workspace = client.workspaces.get(name)
        base = client.url
    if json:
        emit_json(asdict(workspace))
        return
    print_facts(
        [
            ("workspace", workspace.id),
            ("title", workspace.title),
            ("description", workspace.description),
            ("visibility", workspace.visibility),
            ("created", time_text(workspace.created)),
            *(
                (kind, f"{base}/collections/{collection}/items")
                for kind, collection in workspace.collections.items()
            ),
        ]
    )
