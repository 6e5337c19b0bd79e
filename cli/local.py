"""`mlops up` and `mlops doctor`: the whole stack on this machine."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cli import options
from cli.exit_codes import ExitCode
from cli.output import console, emit_json, emit_json_line, print_facts

if TYPE_CHECKING:
    from infra.local.doctor import Check


def up(
    home: options.Home = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port of the API, 0 for a free one [default: as before, or 8080]"
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Start everything on this machine: database, API, functions, engine.

    All of it lies in one folder. Ctrl-C stops it; nothing is lost.
    """
    from infra.local.service import serve
    from mlops.sdk.endpoint import find_home

    folder = find_home(home).absolute()

    def on_ready(url: str) -> None:
        if json:
            emit_json_line({"url": url, "home": str(folder)})
            return
        typer.echo("stac-mlops is running. Ctrl-C stops it; nothing is lost.")
        print_facts(
            [
                ("API", url),
                ("documentation", f"{url}/api.html"),
                ("home", folder),
                ("next", "mlops workspace create NAME, or mlops demo"),
            ]
        )

    if not json:
        typer.echo(f"Starting in {folder} ...", err=True)
    serve(folder, port, on_ready)


def doctor(home: options.Home = None, json: options.Json = False) -> None:
    """Check this machine and the stack in its home, and say what to do."""
    from infra.local.doctor import diagnose
    from mlops.sdk.endpoint import find_home

    checks = diagnose(find_home(home).absolute())
    healthy = all(check.ok for check in checks)
    if json:
        emit_json({"ok": healthy, "checks": [asdict(check) for check in checks]})
    else:
        _print_checks(checks)
    if not healthy:
        raise typer.Exit(ExitCode.FAILED)


def _print_checks(checks: "list[Check]") -> None:
    from rich.text import Text

    screen = console()
    for check in checks:
        mark = Text("ok  ", style="green") if check.ok else Text("FAIL", style="bold red")
        screen.print(mark, Text(f"{check.name}: {check.detail}"))
        if check.advice:
            screen.print(Text(f"       {check.advice}", style="dim" if check.ok else "yellow"))
